//! Writing SVG: escaping, lengths of text, and the colours of light and dark.

use std::fmt::{Display, Write as _};

use super::Tone;

/// Width of every plot, in its own units.
pub(super) const WIDTH: f64 = 960.0;

/// Colours are rules of CSS, not variables: not every renderer knows these.
const STYLE: &str = "\
.tg{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;font-size:12px}
.tg .paper{fill:#ffffff}.tg text{fill:#1f2937}.tg .soft{fill:#5b6472}
.tg .title{font-size:17px;font-weight:600}.tg .head{font-size:13px;font-weight:600}
.tg .grid{stroke:#e3e6ea;stroke-width:1}.tg .base{stroke:#9aa1ab;stroke-width:1}
.tg .mark{stroke:#5b6472;stroke-width:1;stroke-dasharray:3 3}
.tg .whisker{stroke:#1f2937;stroke-width:1.5;fill:none}
.tg .line{fill:none;stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}
.tg .area{fill-opacity:.16;stroke:none}
.tg .blue{stroke:#2160c4;fill:#2160c4}.tg .green{stroke:#0b7f6b;fill:#0b7f6b}
.tg .orange{stroke:#c05a00;fill:#c05a00}.tg .red{stroke:#c2303a;fill:#c2303a}
.tg .violet{stroke:#7a45bd;fill:#7a45bd}.tg .grey{stroke:#78808c;fill:#78808c}
.tg path.line{fill:none}.tg .area{stroke:none}.tg .bar{stroke:none}.tg .dot{stroke:none}
@media (prefers-color-scheme:dark){
.tg .paper{fill:#12161c}.tg text{fill:#e6e9ee}.tg .soft{fill:#a3acb9}
.tg .grid{stroke:#2a313b}.tg .base{stroke:#66707d}.tg .mark{stroke:#a3acb9}
.tg .whisker{stroke:#e6e9ee}
.tg .blue{stroke:#73a9ff;fill:#73a9ff}.tg .green{stroke:#43c9b0;fill:#43c9b0}
.tg .orange{stroke:#f5a35c;fill:#f5a35c}.tg .red{stroke:#ff7d84;fill:#ff7d84}
.tg .violet{stroke:#bd98f7;fill:#bd98f7}.tg .grey{stroke:#98a1ae;fill:#98a1ae}
.tg path.line{fill:none}.tg .area{stroke:none}.tg .bar{stroke:none}.tg .dot{stroke:none}
}
";

/// Where a text is held.
#[derive(Clone, Copy, Debug)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// An SVG document in the making.
pub(super) struct Svg {
    body: String,
    title: String,
}

impl Svg {
    pub(super) fn new(title: &str) -> Self {
        Self { body: String::new(), title: title.to_owned() }
    }

    /// Writes an element as it stands.
    pub(super) fn raw(&mut self, element: impl Display) {
        // Writing to a string does not fail.
        let _ = writeln!(self.body, "{element}");
    }

    pub(super) fn text(&mut self, x: f64, y: f64, anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escape(text);
        self.raw(format_args!(
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" class="{class}">{text}</text>"#
        ));
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.raw(format_args!(
            r#"<line x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}" class="{class}"/>"#
        ));
    }

    pub(super) fn path(&mut self, data: &str, class: &str) {
        if !data.is_empty() {
            self.raw(format_args!(r#"<path d="{data}" class="{class}"/>"#));
        }
    }

    pub(super) fn rect(&mut self, (x, y): (f64, f64), (w, h): (f64, f64), class: &str) {
        self.raw(format_args!(
            r#"<rect x="{x:.1}" y="{y:.1}" width="{w:.1}" height="{h:.1}" class="{class}"/>"#
        ));
    }

    pub(super) fn dot(&mut self, (x, y): (f64, f64), radius: f64, class: &str) {
        self.raw(format_args!(
            r#"<circle cx="{x:.1}" cy="{y:.1}" r="{radius}" class="dot {class}"/>"#
        ));
    }

    /// Title and subtitle; returns the height that they take.
    pub(super) fn heading(&mut self, subtitle: &str) -> f64 {
        let title = self.title.clone();
        self.text(24.0, 34.0, Anchor::Start, "title", &title);
        let mut y = 34.0;
        for line in wrap(subtitle, WIDTH - 48.0) {
            y += 19.0;
            self.text(24.0, y, Anchor::Start, "soft", &line);
        }
        y + 14.0
    }

    /// The document.
    pub(super) fn finish(self, height: f64) -> String {
        let title = escape(&self.title);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"tg\" viewBox=\"0 0 {WIDTH} \
             {height:.0}\" width=\"{WIDTH}\" height=\"{height:.0}\" role=\"img\" \
             aria-label=\"{title}\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n\
             <rect width=\"{WIDTH}\" height=\"{height:.0}\" class=\"paper\"/>\n{}</svg>\n",
            self.body
        )
    }
}

pub(super) const fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Blue => "blue",
        Tone::Green => "green",
        Tone::Orange => "orange",
        Tone::Red => "red",
        Tone::Violet => "violet",
        Tone::Grey => "grey",
    }
}

/// About how long a text of 12 units is; rather too long than too short.
pub(super) fn width(text: &str) -> f64 {
    text.chars()
        .map(|c| match c {
            'i' | 'j' | 'l' | '.' | ',' | ':' | '\'' | '|' | ' ' => 4.2,
            'm' | 'w' | 'M' | 'W' | '%' => 11.0,
            c if c.is_uppercase() => 8.6,
            _ => 7.4,
        })
        .sum()
}

fn wrap(text: &str, room: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut().filter(|line| width(line) + width(word) + 4.2 <= room) {
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Text that is safe between tags and in attributes.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
