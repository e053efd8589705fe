//! Plots as SVG.

use std::fmt::Write as _;

use super::statistics::Spread;

/// A ratio and its goal.
pub(super) struct Mark {
    pub(super) title: String,
    pub(super) ratio: Spread,
    pub(super) goal: f64,
    pub(super) is_met: bool,
    pub(super) is_doubtful: bool,
}

/// Bars that are compared.
pub(crate) struct Group {
    pub(crate) title: String,
    pub(crate) bars: Vec<Bar>,
}

/// A bar, and how far its figures lie apart.
pub(crate) struct Bar {
    pub(crate) title: &'static str,
    pub(crate) value: Spread,
}

const WIDTH: f64 = 920.0;
/// Where titles end and the plot begins.
const LEFT: f64 = 420.0;
const RIGHT: f64 = 40.0;
const ROW: f64 = 20.0;
const HEAD: f64 = 36.0;
/// From an eighth to eight times.
const OCTAVES: f64 = 3.0;

/// Every ratio as a point with its range, on a scale of doublings; the goal as a stroke.
pub(super) fn ratios(marks: &[Mark]) -> String {
    let height = HEAD + ROW * (marks.len() as f64 + 1.0);
    let mut svg = begin(
        height,
        "Ratios (points, range of the rounds) and goals (strokes)",
    );
    for power in -3..=3_i32 {
        let ratio = f64::from(power).exp2();
        let x = place(ratio);
        let _ = writeln!(
            svg,
            "<line x1='{x:.1}' x2='{x:.1}' y1='{HEAD}' y2='{:.1}' stroke='{}'/>",
            height - ROW,
            if power == 0 { "#666" } else { "#ddd" }
        );
        text(&mut svg, x, height - 6.0, "middle", &format!("{ratio}x"));
    }
    for (at, mark) in marks.iter().enumerate() {
        let y = HEAD + ROW * (at as f64 + 0.5);
        let color = match (mark.is_doubtful, mark.is_met) {
            (true, _) => "#999",
            (false, true) => "#287d3c",
            (false, false) => "#c0392b",
        };
        text(&mut svg, LEFT - 8.0, y + 4.0, "end", &mark.title);
        let (low, high) = (place(mark.ratio.least), place(mark.ratio.most));
        let (middle, goal) = (place(mark.ratio.median), place(mark.goal));
        let _ = writeln!(
            svg,
            "<line x1='{low:.1}' x2='{high:.1}' y1='{y:.1}' y2='{y:.1}' stroke='{color}' stroke-width='2'/>\
             <circle cx='{middle:.1}' cy='{y:.1}' r='5' fill='{color}'/>\
             <line x1='{goal:.1}' x2='{goal:.1}' y1='{:.1}' y2='{:.1}' stroke='#000' stroke-width='3'/>",
            y - 7.0,
            y + 7.0
        );
    }
    svg + "</svg>\n"
}

/// Groups of bars, each group on a scale of its own.
pub(crate) fn bars(title: &str, groups: &[Group]) -> String {
    let rows: usize = groups.iter().map(|group| group.bars.len() + 1).sum();
    let mut svg = begin(HEAD + ROW * (rows as f64 + 0.5), title);
    let mut y = HEAD;
    for group in groups {
        text(&mut svg, 8.0, y + 14.0, "start", &group.title);
        y += ROW;
        let most = group
            .bars
            .iter()
            .map(|bar| bar.value.most)
            .fold(0.0, f64::max);
        let scale = (WIDTH - LEFT - RIGHT - 60.0) / most.max(f64::MIN_POSITIVE);
        for bar in &group.bars {
            text(&mut svg, LEFT - 8.0, y + 14.0, "end", bar.title);
            let (low, high) = (bar.value.least * scale, bar.value.most * scale);
            let _ = writeln!(
                svg,
                "<rect x='{LEFT}' y='{:.1}' width='{:.1}' height='{:.1}' fill='#4a7fb5'/>\
                 <line x1='{:.1}' x2='{:.1}' y1='{:.1}' y2='{:.1}' stroke='#222'/>",
                y + 3.0,
                bar.value.median * scale,
                ROW - 6.0,
                LEFT + low,
                LEFT + high,
                y + ROW / 2.0,
                y + ROW / 2.0
            );
            text(
                &mut svg,
                LEFT + high + 6.0,
                y + 14.0,
                "start",
                &format!("{:.2}", bar.value.median),
            );
            y += ROW;
        }
    }
    svg + "</svg>\n"
}

fn begin(height: f64, title: &str) -> String {
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' font-family='sans-serif' font-size='12'>\n\
         <rect width='{WIDTH}' height='{height}' fill='#fff'/>\n"
    );
    text(&mut svg, 8.0, 20.0, "start", title);
    svg
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text x='{x:.1}' y='{y:.1}' text-anchor='{anchor}'>{words}</text>"
    );
}

/// Where a ratio lies; what is too far away lies at the edge.
fn place(ratio: f64) -> f64 {
    let octaves = ratio.max(f64::MIN_POSITIVE).log2().clamp(-OCTAVES, OCTAVES);
    LEFT + (octaves + OCTAVES) / (2.0 * OCTAVES) * (WIDTH - LEFT - RIGHT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPREAD: Spread = Spread {
        median: 2.0,
        least: 1.0,
        most: 100.0,
    };

    #[test]
    fn one_is_in_the_middle_and_nothing_is_outside() {
        assert!((place(1.0) - f64::midpoint(LEFT, WIDTH - RIGHT)).abs() < 1e-9);
        assert!((place(0.0) - LEFT).abs() < 1e-9);
        assert!((place(1e9) - (WIDTH - RIGHT)).abs() < 1e-9);
    }

    #[test]
    fn a_plot_has_a_mark_for_every_goal_and_a_bar_for_every_side() {
        let mark = |is_met| Mark {
            title: "a < b".to_owned(),
            ratio: SPREAD,
            goal: 2.5,
            is_met,
            is_doubtful: false,
        };
        let svg = ratios(&[mark(true), mark(false)]);
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(svg.contains("a &lt; b") && svg.contains("#287d3c") && svg.contains("#c0392b"));
        let bar = |title| Bar {
            title,
            value: SPREAD,
        };
        let group = Group {
            title: "reads".to_owned(),
            bars: vec![bar("ours"), bar("theirs")],
        };
        let svg = bars("CPU", &[group]);
        // The background is one, too.
        assert_eq!(svg.matches("<rect").count(), 3);
        assert!(svg.ends_with("</svg>\n"));
    }
}
