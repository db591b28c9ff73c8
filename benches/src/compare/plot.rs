//! The plot of the cost for one more client as a manager fills: the ratio of its cycle to that of an empty manager's
//! client, over the number of items in the manager, on a logarithmic scale.

use crate::contest::Ground;
use crate::crowd;
use crate::load::{self, Load};
use crate::pace::Pace;
use crate::party::Failure;
use indicatif::ProgressBar;
use plotters::prelude::*;
use std::fs;
use std::path::Path;

/// The loads that are drawn, and their colours.
const DRAWN: [(&str, RGBColor); 3] = [
    (crowd::CONNECTIONS, RGBColor(0, 114, 178)),
    (crowd::WAITERS, RGBColor(213, 94, 0)),
    (crowd::LOCKS, RGBColor(0, 158, 115)),
];

/// The size in pixels.
const SIZE: (u32, u32) = (720, 420);

/// The font of all text.
const FONT: (&str, u32) = ("sans-serif", 14);

/// The least upper end of the axis. The axis is longer if a line is higher.
const HIGHEST: f64 = 2.0;

/// The line of one load: the cost for each size.
struct Line {
    name: &'static str,
    colour: RGBColor,
    points: Vec<(f64, f64)>,
}

/// Measures each load that is drawn at all powers of ten up to the size that `most` gives, and draws the lines.
pub(crate) async fn draw(
    loads: &[Load],
    most: impl Fn(&Load) -> usize,
    ground: &Ground,
    pace: Pace,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    let mut lines = Vec::new();
    for (crowd, colour) in DRAWN {
        for load in loads.iter().filter(|load| load.crowd == crowd) {
            let mut line = Line {
                name: load.name,
                colour,
                points: Vec::new(),
            };
            let sizes = std::iter::successors(Some(1), |size| Some(size * 10));
            for size in sizes.take_while(|size| *size <= most(load)) {
                bar.set_message(load.title(size));
                if load.obstacle(size)?.is_none() {
                    let outcome = load.put(size, 1, ground, pace, bar).await?;
                    let cost = outcome.last_ratio().ok_or("a load without a ratio")?;
                    line.points.push((size as f64, cost));
                }
            }
            lines.push(line);
        }
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/scale.svg");
    fs::create_dir_all(file.parent().ok_or("a file in no folder")?)?;
    paint(&lines, &file)?;
    bar.finish_and_clear();
    Ok(())
}

fn paint(lines: &[Line], file: &Path) -> Result<(), Failure> {
    let points = lines.iter().flat_map(|line| &line.points);
    let (most, highest) = points.fold((10.0_f64, HIGHEST), |(most, highest), (size, cost)| {
        (most.max(*size), highest.max(cost * 1.1))
    });
    let page = SVGBackend::new(file, SIZE).into_drawing_area();
    page.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&page)
        .margin(16)
        .margin_right(40)
        .x_label_area_size(48)
        .y_label_area_size(64)
        .build_cartesian_2d((1.0..most).log_scale(), 0.0..highest)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .label_style(FONT)
        .axis_desc_style(FONT)
        .x_desc("how many the manager has")
        .y_desc("one more client's cycle, in times an empty manager's")
        .x_label_formatter(&|size| load::grouped(*size as usize))
        .draw()?;
    for Line {
        name,
        colour,
        points,
    } in lines
    {
        let colour = *colour;
        chart
            .draw_series(
                LineSeries::new(points.iter().copied(), colour.stroke_width(2)).point_size(3),
            )?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .label_font(FONT)
        .position(SeriesLabelPosition::LowerLeft)
        .border_style(TRANSPARENT)
        .draw()?;
    Ok(page.present()?)
}
