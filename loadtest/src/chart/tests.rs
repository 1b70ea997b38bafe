use super::*;

fn panels() -> Figure {
    let line = |name: &str, tone, form| {
        let points = (0..50).map(|at| (f64::from(at), f64::from(at * at))).collect();
        Series::new(name, tone, form, points)
    };
    let gaps = vec![(0.0, Some(1.0)), (1.0, None), (2.0, Some(3.0)), (3.0, Some(4.0))];
    Figure {
        name: String::new(),
        title: "A <day> & \"night\"".into(),
        subtitle: "Made for a test".into(),
        content: Content::Panels(Panels {
            axis: Axis::Time { end: 50.0 },
            panels: vec![
                Panel::linear("Requests a second", vec![line("due", Tone::Blue, Form::Area)]),
                Panel::linear(
                    "Replicas",
                    vec![
                        line("desired", Tone::Orange, Form::Step),
                        line("ready", Tone::Green, Form::Dots),
                    ],
                ),
                Panel::log("ms", vec![Series::with_gaps("p50", Tone::Red, Form::Line, gaps)]),
            ],
            marks: vec![
                Mark { at: 10.0, label: "stopped".into() },
                Mark { at: 11.0, label: "started again".into() },
            ],
        }),
    }
}

fn attribute(element: &str, name: &str) -> Option<f64> {
    element.split(&format!(" {name}=\"")).nth(1)?.split('"').next()?.parse().ok()
}

#[test]
fn nothing_is_drawn_outside_and_text_is_escaped() {
    let svg = panels().svg();
    assert!(svg.contains("A &lt;day&gt; &amp; &quot;night&quot;"));
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    let height = attribute(svg.lines().next().unwrap(), "height").unwrap();
    for element in svg.lines().filter(|line| line.starts_with("<text")) {
        let (x, y) = (attribute(element, "x").unwrap(), attribute(element, "y").unwrap());
        assert!((0.0..=960.0).contains(&x) && (0.0..=height).contains(&y), "{element}");
    }
    for element in svg.lines().filter(|line| line.starts_with("<line")) {
        for name in ["x1", "x2"] {
            assert!((70.0..=932.0).contains(&attribute(element, name).unwrap()), "{element}");
        }
    }
}

#[test]
fn names_of_close_marks_stand_in_two_rows() {
    let svg = panels().svg();
    let base = |text: &str| {
        let line = svg.lines().find(|line| line.contains(text) && line.starts_with("<text"));
        attribute(line.unwrap(), "y").unwrap()
    };
    assert!(base(">stopped<") < base(">started again<"));
}

#[test]
fn only_several_series_have_a_legend() {
    let svg = panels().svg();
    assert!(svg.contains(">desired<") && svg.contains(">ready<"));
    assert!(!svg.contains(">due<"), "its title says it");
}

#[test]
fn a_figure_survives_the_results_file() {
    let json = serde_json::to_string(&panels()).unwrap();
    let read: Figure = serde_json::from_str(&json).unwrap();
    assert_eq!(read.svg(), panels().svg());
}

#[test]
fn empty_panels_and_bars_are_drawn() {
    let mut figure = panels();
    if let Content::Panels(panels) = &mut figure.content {
        for panel in &mut panels.panels {
            panel.series.iter_mut().for_each(|series| series.points.clear());
        }
    }
    assert!(!figure.svg().contains("NaN"));
    figure.content = Content::Bars(Bars { unit: "ms".into(), rows: vec![], reference: None });
    assert!(!figure.svg().contains("NaN"));
}

#[test]
fn parts_of_a_bar_lie_end_to_end() {
    let row = Row {
        label: "cold start".into(),
        parts: vec![("spawn".into(), 2.0, Tone::Blue), ("listen".into(), 3.0, Tone::Green)],
        interval: Some((4.0, 6.0)),
        note: "5.0 ms".into(),
    };
    let bars = Bars { unit: "ms".into(), rows: vec![row], reference: Some((4.0, "floor".into())) };
    let svg = Figure { content: Content::Bars(bars), ..panels() }.svg();
    let rects: Vec<&str> = svg.lines().filter(|line| line.contains("height=\"16.0\"")).collect();
    let [first, second] = rects[..] else { panic!("{svg}") };
    let end = attribute(first, "x").unwrap() + attribute(first, "width").unwrap();
    assert!((end - attribute(second, "x").unwrap()).abs() < 0.2);
}
