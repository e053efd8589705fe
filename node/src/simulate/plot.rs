//! Two plots over time: how many nodes are done, and what the origin sends.

use std::fmt::Write as _;

use vmthunder_sim::{Report, Scenario};
use vmthunder_volume::EXTENT_BYTES;

use crate::simulate::show::name;

/// Draws storms of one bound, one line for each.
pub(crate) fn svg(storms: &[(Scenario, Report)]) -> String {
    let bound = storms
        .first()
        .map_or(0.0, |(scenario, _)| scenario.bound().as_secs_f64());
    let ends = storms.iter().map(|(_, report)| report.last.as_secs_f64());
    // A star takes so long that nothing else could be seen beside it.
    let until = ends.fold(bound, f64::max).min(bound * MOST_BOUNDS) * 1.05;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let nodes = storms
        .iter()
        .map(|(scenario, _)| f64::from(scenario.nodes))
        .fold(1.0, f64::max);
    let done = Panel {
        top: 40.0,
        until,
        most: nodes,
    };
    done.frame(&mut svg, "nodes that have booted", bound);
    let sent: Vec<Vec<(f64, f64)>> = storms.iter().map(|(_, report)| sending(report)).collect();
    let most = sent
        .iter()
        .flatten()
        .map(|(_, rate)| *rate)
        .fold(1e-3, f64::max);
    let sending = Panel {
        top: 340.0,
        until,
        most,
    };
    sending.frame(&mut svg, "Gbit/s that the origin sends", bound);
    for (((scenario, report), sent), (number, colour)) in
        storms.iter().zip(&sent).zip((0..).zip(COLOURS))
    {
        done.line(&mut svg, colour, &booted(report));
        sending.line(&mut svg, colour, sent);
        let x = LEFT + 110.0 * f64::from(number);
        let (shape, square) = (name(scenario.shape), "width=\"12\" height=\"12\"");
        writeln!(
            svg,
            "<rect x=\"{x}\" y=\"8\" {square} fill=\"{colour}\"/><text x=\"{}\" y=\"19\">{shape}</text>",
            x + 18.0
        )
        .ok();
    }
    svg.push_str("</svg>\n");
    svg
}

/// Steps: at each end one node more.
fn booted(report: &Report) -> Vec<(f64, f64)> {
    let mut points = vec![(0.0, 0.0)];
    for (end, count) in report.ends.iter().zip(0_u32..) {
        let at = end.as_secs_f64();
        points.extend([(at, f64::from(count)), (at, f64::from(count + 1))]);
    }
    points
}

fn sending(report: &Report) -> Vec<(f64, f64)> {
    let tick = report.tick.as_secs_f64();
    let rate = |extents: u32| f64::from(extents) * EXTENT_BYTES as f64 * 8.0 / tick / 1e9;
    let sent = report.origin_sent.iter().zip(0_u32..);
    let mut points: Vec<(f64, f64)> = sent
        .map(|(extents, number)| (tick * f64::from(number), rate(*extents)))
        .collect();
    points.extend(points.last().map(|(at, _)| (at + tick, 0.0)));
    points
}

/// A plot with time to the right.
struct Panel {
    top: f64,
    until: f64,
    most: f64,
}

impl Panel {
    fn x(&self, at: f64) -> f64 {
        LEFT + at.min(self.until) / self.until.max(f64::MIN_POSITIVE) * BROAD
    }

    fn y(&self, value: f64) -> f64 {
        self.top + HIGH - value / self.most * HIGH
    }

    fn frame(&self, svg: &mut String, title: &str, bound: f64) {
        let (bottom, top) = (self.y(0.0), self.top);
        writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"{}\" font-weight=\"bold\">{title}</text>\n\
             <path d=\"M{LEFT} {top}V{bottom}H{}\" fill=\"none\" stroke=\"black\"/>",
            top - 6.0,
            LEFT + BROAD
        )
        .ok();
        for part in [0.0, 0.25, 0.5, 0.75, 1.0] {
            let (value, at) = (self.most * part, self.until * part);
            writeln!(
                svg,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{value:.3}</text>\
                 <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{at:.2} s</text>",
                LEFT - 6.0,
                self.y(value) + 4.0,
                self.x(at),
                bottom + 18.0
            )
            .ok();
        }
        let x = self.x(bound);
        writeln!(
            svg,
            "<path d=\"M{x} {top}V{bottom}\" stroke=\"grey\" stroke-dasharray=\"4 4\"/>\
             <text x=\"{}\" y=\"{}\" fill=\"grey\">bound</text>",
            x + 4.0,
            top + 12.0
        )
        .ok();
    }

    fn line(&self, svg: &mut String, colour: &str, points: &[(f64, f64)]) {
        svg.push_str("<polyline points=\"");
        for (at, value) in points.iter().filter(|(at, _)| *at <= self.until) {
            write!(svg, "{:.2},{:.2} ", self.x(*at), self.y(*value)).ok();
        }
        writeln!(
            svg,
            "\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>"
        )
        .ok();
    }
}

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 620.0;
const LEFT: f64 = 70.0;
const BROAD: f64 = 800.0;
const HIGH: f64 = 240.0;
/// Time is drawn up to so many bounds.
const MOST_BOUNDS: f64 = 4.0;
const COLOURS: [&str; 4] = ["#1f77b4", "#2ca02c", "#ff7f0e", "#d62728"];

#[cfg(test)]
mod tests {
    use vmthunder_sim::{Scenario, Shape, run};

    use super::svg;

    #[test]
    fn every_storm_has_its_two_lines_and_its_name() {
        let storms = [Shape::Forest, Shape::Star].map(|shape| {
            let scenario = Scenario {
                shape,
                ..Scenario::default()
            };
            let report = run(&scenario);
            (scenario, report)
        });
        let svg = svg(&storms);
        assert_eq!(svg.matches("<polyline").count(), 4);
        assert!(svg.contains(">forest<") && svg.contains(">star<") && svg.ends_with("</svg>\n"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }
}
