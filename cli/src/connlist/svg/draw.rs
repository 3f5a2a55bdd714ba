//! The picture as text. Colours follow whoever looks: light or dark.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::net::IpAddr;

use ringfence_netpol::connections::Range;
use ringfence_netpol::port::PortSet;

use super::arrange::{Drawing, Frame, LETTER, Way};
use super::picture::{Line, Picture, Spot};
use crate::connlist::format::ports_text;

const STYLE: &str = "\
text{font:12px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;fill:#1f2328}
.paper{fill:#fff}
.box{fill:#f3f5f8;stroke:#c3cad3}
.boxname{font-weight:600;fill:#4a5563}
.workload{fill:#fff;stroke:#5b7fb8}
.hub{fill:#e3ecfa;stroke:#5b7fb8;stroke-dasharray:4 3}
.outside{fill:#fff4e0;stroke:#c58a1b}
.edge{fill:#e6f5ea;stroke:#3c8f57}
.small{font-size:10px;fill:#667180}
.line{fill:none;stroke:#67727f;stroke-width:1.2}
.all{stroke:#c0392b}
.tip{fill:#67727f}
.alltip{fill:#c0392b}
.plate{fill:#fff;fill-opacity:.88}
.ports{font-size:10.5px;fill:#3a434d}
@media (prefers-color-scheme:dark){
text{fill:#e6e9ee}
.paper{fill:#15181d}
.box{fill:#1e232b;stroke:#3b4450}
.boxname{fill:#a9b4c2}
.workload{fill:#262d37;stroke:#7ea2dc}
.hub{fill:#22344f;stroke:#7ea2dc}
.outside{fill:#3a2f17;stroke:#d9a441}
.edge{fill:#1b3524;stroke:#5fb67c}
.small{fill:#99a4b2}
.line{stroke:#8d99a8}
.all{stroke:#ff7b6b}
.tip{fill:#8d99a8}
.alltip{fill:#ff7b6b}
.plate{fill:#15181d}
.ports{fill:#c6ced8}
}
";

/// Letters of a name that are shown; all of it is in the title that appears on it.
const NAME: usize = 34;
/// Letters of a list of ports.
const PORTS: usize = 30;

pub fn write(picture: &Picture, drawing: &Drawing, out: &mut dyn Write) -> io::Result<()> {
    let remarks: Vec<Vec<String>> = picture
        .remarks
        .iter()
        .map(|remark| wrapped(remark, drawing.width.max(420.0)))
        .collect();
    let remark_lines: usize = remarks.iter().map(Vec::len).sum();
    let width = drawing.width.max(420.0);
    let height = drawing.height.max(60.0) + remark_lines as f64 * 16.0 + 8.0;
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" aria-labelledby=\"ringfence-title ringfence-desc\" \
         width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\">"
    )?;
    writeln!(
        out,
        "<title id=\"ringfence-title\">Who reaches whom</title>\n<desc id=\"ringfence-desc\">{}</desc>",
        escaped(&description(picture))
    )?;
    writeln!(out, "<style>\n{STYLE}</style>")?;
    writeln!(out, "<defs>")?;
    for (id, class) in [("tip", "tip"), ("alltip", "alltip")] {
        // A second one that points backwards, since not every reader of SVG turns a marker round.
        for (suffix, path, at) in [("", "M0,0L8,4L0,8Z", 7), ("-back", "M8,0L0,4L8,8Z", 1)] {
            writeln!(
                out,
                "<marker id=\"ringfence-{id}{suffix}\" markerWidth=\"8\" markerHeight=\"8\" refX=\"{at}\" refY=\"4\" orient=\"auto\" \
                 markerUnits=\"userSpaceOnUse\"><path class=\"{class}\" d=\"{path}\"/></marker>"
            )?;
        }
    }
    writeln!(out, "</defs>")?;
    writeln!(
        out,
        "<rect class=\"paper\" width=\"{width:.0}\" height=\"{height:.0}\"/>"
    )?;
    for (namespace, frame) in &drawing.namespaces {
        namespace_box(namespace, frame, out)?;
    }
    for (line, way) in picture.lines.iter().zip(&drawing.ways) {
        connection(picture, line, way, out)?;
    }
    for (spot, frame) in picture.spots.iter().zip(&drawing.spots) {
        node(picture, spot, frame, out)?;
    }
    for (line, way) in picture.lines.iter().zip(&drawing.ways) {
        plate(line, way, out)?;
    }
    let mut y = drawing.height.max(60.0) + 8.0;
    for text in remarks.iter().flatten() {
        writeln!(
            out,
            "<text class=\"small\" x=\"16\" y=\"{y:.0}\">{}</text>",
            escaped(text)
        )?;
        y += 16.0;
    }
    writeln!(out, "</svg>")
}

fn description(picture: &Picture) -> String {
    let workloads: usize = picture.workloads.values().sum();
    let mut text = format!(
        "{workloads} workloads in {} namespaces; {} connections, drawn as {} lines. A line goes from who opens a connection to who takes it.",
        picture.workloads.len(),
        picture.connections,
        picture.lines.len()
    );
    for remark in &picture.remarks {
        let _ = write!(text, " {remark}"); // writing to a String cannot fail
    }
    text
}

fn namespace_box(namespace: &str, frame: &Frame, out: &mut dyn Write) -> io::Result<()> {
    let (x, y) = corner(frame);
    let shown = short(namespace, ((frame.width - 16.0) / LETTER).max(4.0) as usize);
    writeln!(
        out,
        "<g><title>namespace {}</title><rect class=\"box\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"8\"/>\
         <text class=\"boxname\" x=\"{:.1}\" y=\"{:.1}\">{}</text></g>",
        escaped(namespace),
        frame.width,
        frame.height,
        x + 10.0,
        y + 17.0,
        escaped(&shown)
    )
}

fn node(picture: &Picture, spot: &Spot, frame: &Frame, out: &mut dyn Write) -> io::Result<()> {
    let (first, second) = label(picture, spot);
    let (x, y) = corner(frame);
    let (class, radius) = match spot {
        Spot::Workload(_) | Spot::Namespace(_) => ("workload", 5.0),
        Spot::All(_) | Spot::Everyone | Spot::EveryNamespace => ("hub", frame.height / 2.0),
        Spot::Outside(_) => ("outside", frame.height / 2.0),
        Spot::IngressController => ("edge", frame.height / 2.0),
    };
    write!(
        out,
        "<g><title>{}</title><rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"{radius:.1}\"/>",
        escaped(&title(picture, spot)),
        frame.width,
        frame.height
    )?;
    let base = if second.is_empty() {
        frame.y + 4.0
    } else {
        frame.y - 3.0
    };
    write!(
        out,
        "<text text-anchor=\"middle\" x=\"{:.1}\" y=\"{base:.1}\">{}</text>",
        frame.x,
        escaped(&first)
    )?;
    if !second.is_empty() {
        write!(
            out,
            "<text class=\"small\" text-anchor=\"middle\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            frame.x,
            frame.y + 12.0,
            escaped(&second)
        )?;
    }
    writeln!(out, "</g>")
}

fn connection(picture: &Picture, line: &Line, way: &Way, out: &mut dyn Write) -> io::Result<()> {
    // What is open without bound should be seen first.
    let (class, tip) = if line.ports == PortSet::All {
        ("line all", "alltip")
    } else {
        ("line", "tip")
    };
    let back = if line.both {
        format!(" marker-start=\"url(#ringfence-{tip}-back)\"")
    } else {
        String::new()
    };
    writeln!(
        out,
        "<g><title>{}</title><path class=\"{class}\" d=\"{}\" marker-end=\"url(#ringfence-{tip})\"{back}/></g>",
        escaped(&sentence(picture, line)),
        if line.from == line.to {
            circle(&way.points)
        } else {
            curve(&way.points)
        }
    )
}

fn plate(line: &Line, way: &Way, out: &mut dyn Write) -> io::Result<()> {
    let text = line_label(&line.ports);
    let width = text.chars().count() as f64 * 6.0 + 6.0;
    let (x, y) = way.label;
    writeln!(
        out,
        "<rect class=\"plate\" x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"14\" rx=\"3\"/>\
         <text class=\"ports\" text-anchor=\"middle\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
        x - width / 2.0,
        y - 7.0,
        y + 3.5,
        escaped(&text)
    )
}

fn sentence(picture: &Picture, line: &Line) -> String {
    format!(
        "{} {} {} : {}",
        title(picture, &line.from),
        if line.both { "<=>" } else { "=>" },
        title(picture, &line.to),
        ports_text(&line.ports)
    )
}

/// The two lines of text on a spot.
pub fn label(picture: &Picture, spot: &Spot) -> (String, String) {
    let count = |count: usize| match count {
        1 => "1 workload".to_owned(),
        count => format!("{count} workloads"),
    };
    match spot {
        Spot::Workload(workload) => (short(&workload.name, NAME), short(&workload.kind, NAME)),
        Spot::All(namespace) => {
            let members = picture.workloads.get(namespace).copied().unwrap_or_default();
            (format!("all {}", count(members)), String::new())
        }
        Spot::Everyone => ("every workload".to_owned(), "of all namespaces".to_owned()),
        Spot::EveryNamespace => ("every namespace".to_owned(), String::new()),
        Spot::Namespace(namespace) => {
            let members = picture.workloads.get(namespace).copied().unwrap_or_default();
            (short(namespace, NAME), count(members))
        }
        Spot::IngressController => ("ingress controllers".to_owned(), "and gateways".to_owned()),
        Spot::Outside(ranges) if is_everywhere(ranges) => ("any address".to_owned(), "outside".to_owned()),
        Spot::Outside(ranges) => {
            let first = ranges.first().map_or_else(String::new, network);
            let more = match ranges.len() {
                0 | 1 => "outside".to_owned(),
                many => format!("and {} more ranges outside", many - 1),
            };
            (short(&first, NAME), more)
        }
    }
}

/// All that there is to say about a spot.
fn title(picture: &Picture, spot: &Spot) -> String {
    match spot {
        Spot::Workload(workload) => workload.to_string(),
        Spot::All(namespace) => format!("each workload of {namespace}"),
        Spot::Everyone => "every workload".to_owned(),
        Spot::EveryNamespace => "every namespace that is drawn".to_owned(),
        Spot::Namespace(namespace) => {
            let members = picture.workloads.get(namespace).copied().unwrap_or_default();
            format!("namespace {namespace}, {members} workloads")
        }
        Spot::IngressController => "{ingress-controller}".to_owned(),
        Spot::Outside(ranges) => {
            const MANY: usize = 40;
            let mut shown: Vec<String> = ranges.iter().take(MANY).map(network).collect();
            if ranges.len() > MANY {
                shown.push(format!("{} more", ranges.len() - MANY));
            }
            format!("outside: {}", shown.join(", "))
        }
    }
}

/// The ports as they stand on a line.
pub fn line_label(ports: &PortSet) -> String {
    short(&ports_text(ports), PORTS)
}

fn is_everywhere(ranges: &[Range]) -> bool {
    let whole = |range: &Range| match (range.first, range.last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => first.to_bits() == 0 && last.to_bits() == u32::MAX,
        (IpAddr::V6(first), IpAddr::V6(last)) => first.to_bits() == 0 && last.to_bits() == u128::MAX,
        _ => false,
    };
    !ranges.is_empty() && ranges.iter().all(whole)
}

/// A range as one network, if it is one.
fn network(range: &Range) -> String {
    let mut subnets = match (range.first, range.last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            ipnet::IpSubnets::from(ipnet::Ipv4Subnets::new(first, last, 0))
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            ipnet::IpSubnets::from(ipnet::Ipv6Subnets::new(first, last, 0))
        }
        _ => return range.to_string(),
    };
    match (subnets.next(), subnets.next()) {
        (Some(network), None) => network.to_string(),
        _ => range.to_string(),
    }
}

fn corner(frame: &Frame) -> (f64, f64) {
    (frame.x - frame.width / 2.0, frame.y - frame.height / 2.0)
}

/// A smooth way along points, level at each of them: lines pass between spots from left to right.
fn curve(points: &[(f64, f64)]) -> String {
    let mut path = String::new();
    for (index, (x, y)) in points.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = match index.checked_sub(1).and_then(|before| points.get(before)) {
            None => write!(path, "M{x:.1},{y:.1}"),
            Some(before) => {
                let middle = (before.0 + x) / 2.0;
                write!(
                    path,
                    "C{middle:.1},{:.1} {middle:.1},{y:.1} {x:.1},{y:.1}",
                    before.1
                )
            }
        };
    }
    path
}

/// Out of a spot and back to it.
fn circle(points: &[(f64, f64)]) -> String {
    let mut path = String::new();
    if let [first, inner @ .., last] = points {
        let _ = write!(path, "M{:.1},{:.1}", first.0, first.1);
        for (index, point) in inner.iter().enumerate() {
            let next = inner.get(index + 1);
            let to = next.map_or(*last, |next| ((point.0 + next.0) / 2.0, (point.1 + next.1) / 2.0));
            let _ = write!(path, "Q{:.1},{:.1} {:.1},{:.1}", point.0, point.1, to.0, to.1);
        }
    }
    path
}

fn short(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// A text in lines that fit.
fn wrapped(text: &str, width: f64) -> Vec<String> {
    let most = (width / 5.6) as usize;
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        if let Some(line) = lines.last_mut()
            && (line.is_empty() || line.chars().count() + 1 + word.chars().count() <= most)
        {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
            continue;
        }
        lines.push(word.to_owned());
    }
    lines
}

/// Text that no reader of XML takes for something else. What XML cannot hold at all is replaced.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}
