//! Distributions of latencies, as lines of text and as an SVG; the history of a study.

use hdrhistogram::Histogram;
use plotters::prelude::*;

/// Lines of the text form, and the nanoseconds of each at least: what clocks tell apart.
const ROWS: usize = 20;
const ROW_NS: u64 = 20;
const WIDTH: usize = 60;

/// Shares of the times by equal steps of a logarithm, from the least to the 99.9th percentile.
pub fn bars(times: &Histogram<u64>) -> String {
    let spread = times.value_at_quantile(0.999).saturating_sub(times.min());
    let steps = shares(times, ((spread / ROW_NS) as usize).clamp(4, ROWS));
    let most = steps.iter().map(|step| step.1).fold(0.0, f64::max);
    let line = |(to, share): &(f64, f64)| {
        let length = if most > 0.0 { (share / most * WIDTH as f64).round() as usize } else { 0 };
        format!("{to:>12.2} us {:>6.2} % {}\n", share * 100.0, "█".repeat(length))
    };
    steps.iter().map(line).collect()
}

/// Steps of a logarithm: the upper end in microseconds, and the share of the times in it.
fn shares(times: &Histogram<u64>, count: usize) -> Vec<(f64, f64)> {
    let (low, high) = (times.min().max(1) as f64, times.value_at_quantile(0.999).max(2) as f64);
    let ratio = (high / low).max(1.01).powf(1.0 / count as f64);
    let mut below = 0u64;
    (1..=count)
        .map(|step| {
            let to = low * ratio.powi(step as i32);
            let until = times.count_between(0, to as u64);
            let share = until.saturating_sub(below) as f64 / times.len().max(1) as f64;
            below = until;
            (to / 1e3, share)
        })
        .collect()
}

/// The share of the times that are longer, over the time: both axes logarithmic, so that tails show.
pub fn svg(title: &str, lines: &[(&str, &Histogram<u64>)]) -> Result<String, String> {
    let mut text = String::new();
    draw(title, lines, &mut text).map_err(|e| e.to_string())?;
    Ok(text)
}

fn draw(
    title: &str,
    lines: &[(&str, &Histogram<u64>)],
    text: &mut String,
) -> Result<(), Box<dyn std::error::Error>> {
    let points: Vec<Vec<(f64, f64)>> = lines.iter().map(|(_, times)| tail(times)).collect();
    let all = points.iter().flatten();
    let low = all.clone().map(|p| p.0).fold(f64::INFINITY, f64::min).min(1e3);
    let high = all.map(|p| p.0).fold(low * 10.0, f64::max);
    let area = SVGBackend::with_string(text, (960, 540)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 15))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d((low * 0.9..high * 1.1).log_scale(), (1e-5f64..1.0).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("time")
        .y_desc("share of the times that are longer")
        .x_label_formatter(&|us| duration(*us))
        .y_label_formatter(&|share| format!("{}", share))
        .light_line_style(RGBColor(240, 240, 240))
        .draw()?;
    let colours = [RGBColor(0, 90, 181), RGBColor(220, 50, 32), RGBColor(0, 140, 90), RGBColor(150, 90, 190)];
    for (((name, times), points), colour) in lines.iter().zip(points).zip(colours.into_iter().cycle()) {
        let label = format!("{name}: p50 {}, p99 {}", quantile(times, 0.5), quantile(times, 0.99));
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.85))
        .border_style(RGBColor(200, 200, 200))
        .draw()?;
    area.present()?;
    drop(chart);
    drop(area);
    Ok(())
}

/// How a trial ended, and its value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ended {
    Complete(f64),
    /// With its last report.
    Pruned(f64),
    /// Infeasible or failed.
    Without,
}

const BLUE: RGBColor = RGBColor(0, 90, 181);
const RED_BROWN: RGBColor = RGBColor(220, 50, 32);
const GREY: RGBColor = RGBColor(150, 150, 150);

/// Values over trial numbers, and the least so far. The scale is that of the complete ones and a little above: what
/// lies higher is drawn at the upper edge.
pub fn history(title: &str, trials: &[(u32, Ended)]) -> Result<String, String> {
    let mut text = String::new();
    draw_history(title, trials, &mut text).map_err(|e| e.to_string())?;
    Ok(text)
}

fn draw_history(
    title: &str,
    trials: &[(u32, Ended)],
    text: &mut String,
) -> Result<(), Box<dyn std::error::Error>> {
    let complete: Vec<(f64, f64)> = trials
        .iter()
        .filter_map(
            |(n, ended)| if let Ended::Complete(v) = ended { Some((f64::from(*n), *v)) } else { None },
        )
        .collect();
    let low = complete.iter().map(|p| p.1).fold(f64::INFINITY, f64::min);
    let high = complete.iter().map(|p| p.1).fold(f64::NEG_INFINITY, f64::max);
    let (low, high) = if complete.is_empty() { (0.0, 1.0) } else { (low, high.max(low + 1e-9)) };
    let (bottom, top) = (low - 0.08 * (high - low), high + 0.4 * (high - low));
    let last = trials.iter().map(|t| f64::from(t.0)).fold(1.0, f64::max);
    let area = SVGBackend::with_string(text, (960, 540)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(84)
        .build_cartesian_2d(-0.5..last + 0.5, bottom..top)?;
    chart
        .configure_mesh()
        .x_desc("trial")
        .y_desc("validation loss")
        .x_label_formatter(&|n| format!("{n:.0}"))
        .light_line_style(RGBColor(240, 240, 240))
        .draw()?;
    let mut best = Vec::new();
    for &(n, value) in &complete {
        let before = best.last().map_or(f64::INFINITY, |p: &(f64, f64)| p.1);
        if value < before && before.is_finite() {
            best.push((n, before));
        }
        best.push((n, value.min(before)));
    }
    if let Some(&(_, value)) = best.last() {
        best.push((last + 0.5, value));
    }
    chart
        .draw_series(LineSeries::new(best, RED_BROWN.stroke_width(2)))?
        .label("best so far")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], RED_BROWN.stroke_width(2)));
    chart
        .draw_series(complete.iter().map(|&point| Circle::new(point, 4, BLUE.filled())))?
        .label("complete")
        .legend(|(x, y)| Circle::new((x + 9, y), 4, BLUE.filled()));
    let pruned = trials.iter().filter_map(|(n, ended)| match ended {
        Ended::Pruned(value) => {
            Some(Cross::new((f64::from(*n), value.clamp(bottom, top)), 4, GREY.stroke_width(2)))
        }
        Ended::Complete(_) | Ended::Without => None,
    });
    chart
        .draw_series(pruned)?
        .label("pruned, its last report")
        .legend(|(x, y)| Cross::new((x + 9, y), 4, GREY.stroke_width(2)));
    let without = trials.iter().filter(|t| t.1 == Ended::Without);
    chart
        .draw_series(without.map(|t| TriangleMarker::new((f64::from(t.0), bottom), 5, GREY.filled())))?
        .label("infeasible or failed")
        .legend(|(x, y)| TriangleMarker::new((x + 9, y), 5, GREY.filled()));
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.85))
        .border_style(RGBColor(200, 200, 200))
        .draw()?;
    area.present()?;
    drop(chart);
    drop(area);
    Ok(())
}

fn quantile(times: &Histogram<u64>, quantile: f64) -> String {
    duration(times.value_at_quantile(quantile) as f64 / 1e3)
}

fn duration(us: f64) -> String {
    match us {
        us if us < 1.0 => format!("{:.0} ns", us * 1e3),
        us if us < 10.0 => format!("{us:.1} µs"),
        us if us < 1e3 => format!("{us:.0} µs"),
        us if us < 1e6 => format!("{:.1} ms", us / 1e3),
        us => format!("{:.1} s", us / 1e6),
    }
}

/// (microseconds, share longer than that), down to one in a hundred thousand.
fn tail(times: &Histogram<u64>) -> Vec<(f64, f64)> {
    let mut points = vec![(times.min() as f64 / 1e3, 1.0)];
    let mut share = 1.0f64;
    while share > 1e-5 && share * times.len() as f64 >= 1.0 {
        points.push((times.value_at_quantile(1.0 - share) as f64 / 1e3, share));
        share *= 0.9;
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(values: impl IntoIterator<Item = u64>) -> Histogram<u64> {
        let mut times = Histogram::new_with_bounds(1, 1_000_000_000, 3).unwrap();
        values.into_iter().for_each(|value| times.saturating_record(value));
        times
    }

    #[test]
    fn shares_add_up_to_what_lies_below_the_last_step() {
        let times = times((1000..3000).chain([900_000_000]));
        let steps = shares(&times, 12);
        let sum: f64 = steps.iter().map(|step| step.1).sum();
        assert!((0.99..=1.0).contains(&sum), "{sum}");
        assert!(steps.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!(bars(&times).lines().count(), ROWS);
        assert_eq!(bars(&super::tests::times([])).lines().count(), 4);
    }

    #[test]
    fn a_tail_falls_from_all_to_few() {
        let points = tail(&times(1000..200_000));
        assert!(points.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 >= pair[1].1));
        let half = points.iter().find(|point| point.1 <= 0.5).unwrap();
        assert!((90.0..120.0).contains(&half.0), "{half:?}");
    }

    #[test]
    fn a_history_has_a_mark_for_each_trial() {
        let trials = [
            (0, Ended::Complete(2.0)),
            (1, Ended::Pruned(9.0)),
            (2, Ended::Without),
            (3, Ended::Complete(1.0)),
        ];
        let svg = history("a & b", &trials).unwrap();
        let circles = svg.matches("<circle").count();
        assert_eq!(circles, 3, "two trials and the legend's");
        assert!(svg.contains("a &amp; b") && svg.contains("best so far"));
        assert!(history("none", &[]).is_ok() && history("one", &trials[..1]).is_ok());
    }

    #[test]
    fn an_svg_names_its_lines() {
        let (one, none) = (times(1000..5000), times([]));
        let svg = svg("a < b", &[("push", &one), ("nothing", &none)]).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("push: p50 3.0 µs") && svg.contains("a &lt; b"));
    }
}
