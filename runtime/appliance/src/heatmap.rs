//! Attributions as an SVG: the features that weigh most, by steps, with each one's share beside it.

use learn::explain::Importance;
use plotters::prelude::*;

/// Rows of the picture.
const FEATURES_MAX: usize = 30;
const ROW_PIXELS: u32 = 20;

/// `names`: of the features, in the columns' order.
pub fn svg(title: &str, importance: &Importance, names: &[String]) -> Result<String, String> {
    let mut text = String::new();
    draw(title, importance, names, &mut text).map_err(|e| e.to_string())?;
    Ok(text)
}

fn draw(
    title: &str,
    importance: &Importance,
    names: &[String],
    text: &mut String,
) -> Result<(), Box<dyn std::error::Error>> {
    let ranked: Vec<(usize, f64)> = importance.ranked().into_iter().take(FEATURES_MAX).collect();
    let (rows, steps) = (ranked.len(), importance.steps);
    let height = 110 + ROW_PIXELS * rows as u32;
    let area = SVGBackend::with_string(text, (960, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 15))
        .margin(12)
        .margin_right(60)
        .x_label_area_size(40)
        .y_label_area_size(170)
        .build_cartesian_2d(-(steps as f64)..0.0, 0.0..rows as f64)?;
    chart
        .configure_mesh()
        .disable_mesh()
        .x_desc("bars before the newest")
        .x_label_formatter(&|x| format!("{:.0}", x.abs()))
        .y_labels(0)
        .label_style(("sans-serif", 12))
        .draw()?;
    let most = importance.cells.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    for (row, &(feature, share)) in ranked.iter().enumerate() {
        let (low, high) = ((rows - row - 1) as f64, (rows - row) as f64);
        for step in 0..steps {
            // The square root, so that what is weak can still be seen.
            let weight = (importance.cells[step * importance.features + feature] / most).sqrt();
            let left = step as f64 - steps as f64;
            let cell = Rectangle::new([(left, low), (left + 1.0, high)], shade(weight).filled());
            chart.draw_series(std::iter::once(cell))?;
        }
        let name = names.get(feature).map_or("?", String::as_str);
        let (right, middle) = chart.plotting_area().map_coordinate(&(0.0, (low + high) / 2.0));
        area.draw(&Text::new(name.to_string(), (14, middle - 6), ("sans-serif", 12)))?;
        let share = format!("{:.1} %", 100.0 * share);
        area.draw(&Text::new(share, (right + 6, middle - 6), ("sans-serif", 12)))?;
    }
    area.present()?;
    Ok(())
}

/// White to dark blue, for 0 to 1.
fn shade(weight: f64) -> RGBColor {
    let part = |from: f64, to: f64| (from + (to - from) * weight.clamp(0.0, 1.0)) as u8;
    RGBColor(part(247.0, 8.0), part(251.0, 48.0), part(255.0, 107.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_shares_stand_in_the_picture() {
        let mut importance = Importance::new(3, 2);
        importance.by_feature = vec![1.0, 3.0];
        importance.cells = vec![0.0, 1.0, 0.0, 1.0, 1.0, 1.0];
        let names = ["low".to_string(), "high <&>".to_string()];
        let svg = svg("m/1", &importance, &names).unwrap();
        for part in ["m/1", "low", "high &lt;&amp;&gt;", "75.0 %", "25.0 %", "bars before the newest"] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
        assert!(svg.find("\nhigh").unwrap() < svg.find("\nlow\n").unwrap(), "the heavier first");
    }
}
