//! Plots: bars, and latency over percentiles.

use std::path::Path;

use hdrhistogram::Histogram;
use plotters::prelude::*;

use crate::logs::{Contender, Role};
use crate::tables::show;
use crate::workloads::Unit;

const FONT: &str = "sans-serif";
const WIDTH: u32 = 760;

pub struct Bar {
    pub contender: &'static Contender,
    pub value: f64,
    pub label: String,
}

fn color(contender: &Contender, number: usize) -> RGBColor {
    const PEERS: [RGBColor; 8] = [
        RGBColor(214, 95, 14),
        RGBColor(0, 136, 108),
        RGBColor(140, 86, 150),
        RGBColor(190, 150, 0),
        RGBColor(200, 60, 90),
        RGBColor(90, 140, 60),
        RGBColor(120, 90, 60),
        RGBColor(60, 160, 180),
    ];
    match contender.role {
        Role::Own => RGBColor(20, 90, 190),
        Role::Variant => RGBColor(90, 150, 230),
        Role::Floor => RGBColor(150, 150, 150),
        Role::Peer => PEERS[number % PEERS.len()],
    }
}

/// Horizontal bars, in order.
pub fn bars(path: &Path, title: &str, bars: &[Bar]) {
    const ROW: i32 = 28;
    const TOP: i32 = 44;
    const LEFT: i32 = 170;
    const LONGEST: f64 = 470.0;
    let height = (TOP + ROW * bars.len() as i32 + 12) as u32;
    let area = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    area.fill(&WHITE).unwrap();
    let text = |text: &str, at: (i32, i32), size: i32| {
        area.draw(&Text::new(text.to_owned(), at, (FONT, size).into_font())).unwrap();
    };
    text(title, (12, 12), 17);
    let most = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
    for (number, bar) in bars.iter().enumerate() {
        let top = TOP + ROW * number as i32;
        let length = ((bar.value / most * LONGEST) as i32).max(1);
        let fill = color(bar.contender, 0).filled();
        let corners = [(LEFT, top + 3), (LEFT + length, top + ROW - 5)];
        area.draw(&Rectangle::new(corners, fill)).unwrap();
        text(bar.contender.name(), (12, top + 5), 14);
        text(&bar.label, (LEFT + length + 6, top + 5), 14);
    }
    area.present().unwrap();
}

/// Latency over percentiles: both scales logarithmic, the percentiles by their distance
/// from all.
pub fn curves(path: &Path, title: &str, curves: &[(&'static Contender, Histogram<u64>)]) {
    const NINES: f64 = 5.0;
    let least = curves.iter().map(|(_, latency)| latency.min()).min().unwrap_or(1).max(1) as f64;
    let most = curves.iter().map(|(_, latency)| latency.max()).max().unwrap_or(1) as f64;
    let area = SVGBackend::new(path, (WIDTH, 420)).into_drawing_area();
    area.fill(&WHITE).unwrap();
    let mut chart = ChartBuilder::on(&area)
        .caption(title, (FONT, 17))
        .margin(12)
        .margin_right(36)
        .x_label_area_size(36)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..NINES, (least.log10().floor()..most.log10().ceil()).step(1.0))
        .unwrap();
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_labels(NINES as usize + 1)
        .x_label_formatter(&|nines| match *nines {
            n if n < 0.5 => "p0".into(),
            n if n < 1.5 => "p90".into(),
            n if n < 2.5 => "p99".into(),
            n => format!("p99.{}", "9".repeat(n.round() as usize - 2)),
        })
        .y_label_formatter(&|power| show(10f64.powf(*power), Unit::Nanos))
        .label_style((FONT, 13))
        .draw()
        .unwrap();
    for (number, (contender, latency)) in curves.iter().enumerate() {
        let color = color(contender, number);
        let at = |nines: f64| {
            let value = latency.value_at_quantile(1.0 - 10f64.powf(-nines)).max(1);
            (nines, (value as f64).log10())
        };
        // not further than there are samples to tell
        let end = (latency.len() as f64).log10().min(NINES);
        let points = (0..=200).map(|i| at(f64::from(i) / 200.0 * end));
        let line = if contender.role == Role::Own { 3 } else { 2 };
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(line)))
            .unwrap()
            .label(contender.name())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .border_style(RGBColor(200, 200, 200))
        .label_font((FONT, 13))
        .draw()
        .unwrap();
    area.present().unwrap();
}
