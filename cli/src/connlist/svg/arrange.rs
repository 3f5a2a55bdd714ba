//! Where everything goes: layers from left to right, boxes around namespaces.

use std::collections::BTreeMap;

use dagre::graph::{Graph, GraphOptions};
use dagre::layout::types::LabelPos;
use dagre::{EdgeLabel, LayoutOptions, NodeLabel, RankDir};

use super::draw::{label, line_label};
use super::picture::{Picture, Spot};

/// The middle of something, and its size.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Frame {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

/// A line's way, and the middle of its label.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Way {
    pub points: Vec<(f64, f64)>,
    pub label: (f64, f64),
}

#[derive(Debug, Default)]
pub struct Drawing {
    /// In the order of the picture's spots.
    pub spots: Vec<Frame>,
    /// In the order of its lines.
    pub ways: Vec<Way>,
    pub namespaces: BTreeMap<String, Frame>,
    pub width: f64,
    pub height: f64,
}

/// What a letter takes at most, in the middle of fonts.
pub const LETTER: f64 = 7.0;
const LABEL_LETTER: f64 = 6.3;

pub fn arrange(picture: &Picture) -> Drawing {
    let mut graph: Graph<NodeLabel, EdgeLabel> = Graph::with_options(GraphOptions {
        directed: true,
        multigraph: true,
        compound: true,
    });
    let mut names: BTreeMap<&Spot, String> = BTreeMap::new();
    let mut boxes: BTreeMap<&str, String> = BTreeMap::new();
    for (index, spot) in picture.spots.iter().enumerate() {
        let name = format!("spot{index}");
        let (first, second) = label(picture, spot);
        let letters = first.chars().count().max(second.chars().count());
        graph.set_node(
            name.clone(),
            Some(NodeLabel {
                width: (letters as f64 * LETTER + 24.0).max(72.0),
                height: if second.is_empty() { 28.0 } else { 42.0 },
                ..NodeLabel::default()
            }),
        );
        if let Some(namespace) = namespace(spot) {
            let count = boxes.len();
            let parent = boxes.entry(namespace).or_insert_with(|| format!("box{count}"));
            if graph.node(parent).is_none() {
                graph.set_node(parent.clone(), Some(NodeLabel::default()));
            }
            graph.set_parent(&name, Some(parent));
        }
        names.insert(spot, name);
    }
    let name_of = |spot: &Spot| names.get(spot).cloned().unwrap_or_default();
    for (index, line) in picture.lines.iter().enumerate() {
        let label = EdgeLabel {
            width: line_label(&line.ports).chars().count() as f64 * LABEL_LETTER + 10.0,
            height: 16.0,
            labelpos: LabelPos::Center,
            ..EdgeLabel::default()
        };
        graph.set_edge(
            name_of(&line.from),
            name_of(&line.to),
            Some(label),
            Some(&format!("line{index}")),
        );
    }
    dagre::layout(
        &mut graph,
        Some(LayoutOptions {
            rankdir: RankDir::LR,
            nodesep: 22.0,
            edgesep: 14.0,
            ranksep: 34.0,
            ..LayoutOptions::default()
        }),
    );
    let frame = |name: &str| {
        let node = graph.node(name);
        node.map_or(Frame::default(), |node| Frame {
            x: node.x.unwrap_or_default(),
            y: node.y.unwrap_or_default(),
            width: node.width,
            height: node.height,
        })
    };
    let mut drawing = Drawing {
        spots: picture.spots.iter().map(|spot| frame(&name_of(spot))).collect(),
        namespaces: boxes
            .iter()
            .map(|(namespace, name)| ((*namespace).to_owned(), frame(name)))
            .collect(),
        ..Drawing::default()
    };
    for (index, line) in picture.lines.iter().enumerate() {
        let (from, to) = (name_of(&line.from), name_of(&line.to));
        let edge = graph.edge(&from, &to, Some(&format!("line{index}")));
        drawing.ways.push(edge.map_or_else(Way::default, |edge| Way {
            points: edge.points.iter().map(|point| (point.x, point.y)).collect(),
            label: (edge.x.unwrap_or_default(), edge.y.unwrap_or_default()),
        }));
    }
    dock(picture, &mut drawing);
    settle(&mut drawing);
    drawing
}

/// Where a line meets a side of a spot.
struct Dock {
    /// Where it comes from.
    height: f64,
    line: usize,
    is_end: bool,
}

/// Lets lines begin and end at the sides of their spots, side by side, in the order in which they come from above.
fn dock(picture: &Picture, drawing: &mut Drawing) {
    let place: BTreeMap<&Spot, usize> = picture.spots.iter().zip(0..).collect();
    // By spot and side (the right one, or the left).
    let mut docks: BTreeMap<(usize, bool), Vec<Dock>> = BTreeMap::new();
    for (index, (line, way)) in picture.lines.iter().zip(&drawing.ways).enumerate() {
        let (Some(&from), Some(&to)) = (place.get(&line.from), place.get(&line.to)) else {
            continue;
        };
        let [_, inner @ .., _] = way.points.as_slice() else {
            continue;
        };
        let (Some(first), Some(last)) = (inner.first(), inner.last()) else {
            continue;
        };
        if from == to {
            continue;
        }
        let is_right = |spot: usize, point: &(f64, f64)| point.0 > drawing.spots[spot].x;
        docks
            .entry((from, is_right(from, first)))
            .or_default()
            .push(Dock {
                height: first.1,
                line: index,
                is_end: false,
            });
        docks.entry((to, is_right(to, last))).or_default().push(Dock {
            height: last.1,
            line: index,
            is_end: true,
        });
    }
    for ((spot, right), mut lines) in docks {
        lines.sort_by(|a, b| a.height.total_cmp(&b.height).then(a.line.cmp(&b.line)));
        let frame = drawing.spots[spot];
        let x = if right {
            frame.x + frame.width / 2.0
        } else {
            frame.x - frame.width / 2.0
        };
        let step = (frame.height - 12.0) / lines.len() as f64;
        for (at, dock) in lines.iter().enumerate() {
            let y = frame.y + step * (at as f64 + 0.5) - (frame.height - 12.0) / 2.0;
            let points = &mut drawing.ways[dock.line].points;
            if let Some(end) = if dock.is_end {
                points.last_mut()
            } else {
                points.first_mut()
            } {
                *end = (x, y);
            }
        }
    }
}

/// Room above boxes for their names, everything moved to where all of it is right of and below the corner.
fn settle(drawing: &mut Drawing) {
    const MARGIN: f64 = 16.0;
    const NAME: f64 = 20.0;
    for frame in drawing.namespaces.values_mut() {
        frame.y -= NAME / 2.0; // there is as much room below as that takes
    }
    let frames = || drawing.spots.iter().chain(drawing.namespaces.values());
    let corners = frames().flat_map(|frame| {
        let (x, y) = (frame.width / 2.0, frame.height / 2.0);
        [(frame.x - x, frame.y - y), (frame.x + x, frame.y + y)]
    });
    let ways = || drawing.ways.iter();
    let points = ways().flat_map(|way| way.points.iter().copied().chain([way.label]));
    let all: Vec<(f64, f64)> = corners.chain(points).collect();
    let least = |of: fn(&(f64, f64)) -> f64| all.iter().map(of).fold(f64::INFINITY, f64::min);
    let most = |of: fn(&(f64, f64)) -> f64| all.iter().map(of).fold(f64::NEG_INFINITY, f64::max);
    if all.is_empty() {
        return;
    }
    let (left, top) = (least(|point| point.0), least(|point| point.1));
    let (right, bottom) = (most(|point| point.0), most(|point| point.1));
    let (dx, dy) = (MARGIN - left, MARGIN - top);
    for frame in drawing.spots.iter_mut().chain(drawing.namespaces.values_mut()) {
        frame.x += dx;
        frame.y += dy;
    }
    for way in &mut drawing.ways {
        for (x, y) in way.points.iter_mut().chain([&mut way.label]) {
            *x += dx;
            *y += dy;
        }
    }
    drawing.width = right - left + 2.0 * MARGIN;
    drawing.height = bottom - top + 2.0 * MARGIN;
}

fn namespace(spot: &Spot) -> Option<&str> {
    match spot {
        Spot::Workload(workload) => Some(&workload.namespace),
        Spot::All(namespace) => Some(namespace),
        Spot::Outside(_)
        | Spot::IngressController
        | Spot::Everyone
        | Spot::EveryNamespace
        | Spot::Namespace(_) => None,
    }
}
