//! The confidence sequence of a comparison over time, as an SVG.

use market::Timestamp;
use plotters::prelude::*;

use super::compare::ComparisonReport;

const BLUE: RGBColor = RGBColor(0, 90, 181);
const DARK: RGBColor = RGBColor(30, 34, 40);
const RED: RGBColor = RGBColor(220, 50, 32);

/// Errors: fewer than two points.
pub fn svg(report: &ComparisonReport) -> Result<String, String> {
    if report.points.len() < 2 {
        return Err(format!(
            "there are {} blocks of {} steps, and a plot needs two with an interval: wait for more outcomes",
            report.test.blocks, report.block_steps
        ));
    }
    let mut text = String::new();
    draw(report, &mut text).map_err(|e| e.to_string())?;
    Ok(text)
}

fn draw(report: &ComparisonReport, text: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let seconds = |time: Timestamp| time.0 as f64 / 1e9;
    let points = &report.points;
    let (first, last) = (seconds(points[0].due), seconds(points[points.len() - 1].due));
    // The first intervals are many times as wide as the last: they may leave the plot.
    let mut ends: Vec<f64> = points.iter().flat_map(|p| [p.low.abs(), p.high.abs()]).collect();
    ends.sort_by(f64::total_cmp);
    let reach = 1.3 * ends[ends.len() * 8 / 10].max(f64::MIN_POSITIVE);
    let area = SVGBackend::with_string(text, (960, 480)).into_drawing_area();
    area.fill(&WHITE)?;
    let title = format!("{} against {}: {}", report.challenger, report.champion, report.test.verdict.name());
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 17))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(92)
        .build_cartesian_2d(first..last.max(first + 1.0), -reach..reach)?;
    chart
        .configure_mesh()
        .x_desc("due, UTC")
        .y_desc(format!("difference of {}, below 0: challenger better", report.loss))
        .x_labels(8)
        .x_label_formatter(&|s| moment(*s, last - first))
        .y_label_formatter(&|y| if y.abs() < 1e-9 * reach { "0".into() } else { format!("{y:.1e}") })
        .label_style(("sans-serif", 13))
        .light_line_style(RGBColor(244, 244, 244))
        .draw()?;
    let clamped = |y: f64| y.clamp(-reach, reach);
    let upper = points.iter().map(|p| (seconds(p.due), clamped(p.high)));
    let lower = points.iter().rev().map(|p| (seconds(p.due), clamped(p.low)));
    let band: Vec<(f64, f64)> = upper.chain(lower).collect();
    chart
        .draw_series([Polygon::new(band, BLUE.mix(0.15))])?
        .label(format!("holds the mean difference at all times, level {}", report.test.level))
        .legend(|(x, y)| Rectangle::new([(x, y - 5), (x + 18, y + 5)], BLUE.mix(0.15).filled()));
    chart.draw_series([PathElement::new([(first, 0.0), (last, 0.0)], DARK.stroke_width(1))])?;
    let mean = points.iter().map(|p| (seconds(p.due), clamped(p.mean)));
    chart
        .draw_series(LineSeries::new(mean, BLUE.stroke_width(2)))?
        .label("mean difference so far")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], BLUE.stroke_width(2)));
    if let Some(start) = decidable(report) {
        chart
            .draw_series([PathElement::new([(start, -reach), (start, reach)], RED.stroke_width(1))])?
            .label(format!("{} blocks: decided from here on", report.blocks_min))
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], RED.stroke_width(1)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .label_font(("sans-serif", 13))
        .background_style(WHITE.mix(0.9))
        .border_style(RGBColor(215, 218, 222))
        .draw()?;
    area.present()?;
    drop(chart);
    drop(area);
    Ok(())
}

/// When the first block ended that may decide, by the share of the points (each stands for as many blocks).
fn decidable(report: &ComparisonReport) -> Option<f64> {
    let share = f64::from(report.blocks_min) / report.test.blocks.max(1) as f64;
    let place = (share * report.points.len() as f64).round() as usize;
    report.points.get(place.saturating_sub(1)).filter(|_| share <= 1.0).map(|p| p.due.0 as f64 / 1e9)
}

/// A date, and the hour where the plot spans less than a week.
fn moment(seconds: f64, span: f64) -> String {
    let text = Timestamp::from_seconds(seconds as i64).to_string();
    let part = if span > 7.0 * 86_400.0 { text.get(..10) } else { text.get(5..16) };
    part.unwrap_or(&text).replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::super::compare::tests::simulated;
    use super::*;

    #[test]
    fn a_plot_says_who_and_what_came_of_it() {
        let mut comparison = simulated(4000, 0.2);
        comparison.finish();
        let svg = svg(&comparison.report()).unwrap();
        for part in ["<polygon", "b/2 against a/1: better", "squared error", "30 blocks: decided"] {
            assert!(svg.contains(part), "{part}");
        }
        let none = simulated(10, 0.0).report();
        assert!(super::svg(&none).unwrap_err().contains("wait for more outcomes"));
    }
}
