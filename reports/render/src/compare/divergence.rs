//! The first divergence in the evidence of two cells.

use std::collections::{BTreeSet, HashMap};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check_evidence::EvidenceIndex;
use crate::comparable::{self, ComparableField};
use crate::evidence_text;
use meshproof_model::report::CheckResult;
use meshproof_model::visible::clipped;

/// The longest value that a divergence quotes, in characters. The reports contain the whole value.
const MAX_QUOTED: usize = 300;

/// The first field in which the evidence of two cells differs, in the order of the request path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Divergence {
    /// The other column.
    pub with: usize,
    /// The side that recorded it: `proxy istio-egressgateway`.
    pub place: String,
    /// The kind of evidence: `request`, `access-log line`.
    pub kind: String,
    /// The field: `status`, `server name`. Empty if only one of the two has this piece of evidence.
    pub field: String,
    /// What this cell's evidence shows; none where there is nothing of the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub here: Option<String>,
    /// The value in the other column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub there: Option<String>,
}

impl Divergence {
    /// One line: `proxy sleep, access-log line, status: 503 instead of 200`.
    #[must_use]
    pub fn sentence(&self) -> String {
        let field = if self.field.is_empty() { String::new() } else { format!(", {}", self.field) };
        let side = |value: &Option<String>| match value.as_deref() {
            None => "no evidence".to_owned(),
            // An empty list differs from missing evidence.
            Some("") => "none".to_owned(),
            Some(value) => value.to_owned(),
        };
        if let (Some(here), None) = (&self.here, &self.there) {
            // Such as a request that only a failed check names.
            return format!("{}, {}{field}: {here}; the other has no such evidence", self.place, self.kind);
        }
        format!("{}, {}{field}: {} instead of {}", self.place, self.kind, side(&self.here), side(&self.there))
    }
}

/// Pieces are paired by role, side, kind and step, in the order in which they were recorded. The role is that of their
/// request: the one that the check is about, or its control. Proxies write their logs at arbitrary times, so only the
/// order within one side and kind is meaningful. A field that one of the two checks names as the cause of its failure
/// comes before all others, which may be unrelated. None if the two checks show different requests of the suite (generated
/// traffic keeps examples only, and those of one run are not those of the other), or if one of them shows nothing (where every
/// request is accounted for, no piece of evidence says so more than the others).
pub(super) fn divergence(ours: &Slots, theirs: &Slots, with: usize) -> Option<Divergence> {
    if ours.is_empty() || theirs.is_empty() {
        return None;
    }
    let (asked, also_asked) = (requests(ours), requests(theirs));
    if !asked.is_empty() && !also_asked.is_empty() && asked.is_disjoint(&also_asked) {
        return None;
    }
    let mut keys: Vec<&EvidenceSlot> = ours.keys().chain(theirs.keys()).collect();
    let time = |key: &EvidenceSlot| ours.get(key).or_else(|| theirs.get(key)).map(|c| c.step_index);
    keys.sort_unstable_by(|a, b| {
        (a.control, a.position, &a.place, a.order, a.kind, time(a), &a.step, a.number).cmp(&(
            b.control,
            b.position,
            &b.place,
            b.order,
            b.kind,
            time(b),
            &b.step,
            b.number,
        ))
    });
    keys.dedup();
    let found = |key: &EvidenceSlot, field: &str, here: Option<String>, there: Option<String>| {
        let quoted = |text: Option<String>| text.map(|t| clipped(&t, MAX_QUOTED).into_owned());
        Divergence {
            with,
            place: key.place.clone(),
            kind: key.kind.to_owned(),
            field: field.to_owned(),
            here: quoted(here),
            there: quoted(there),
        }
    };
    // A check that failed early cites fewer steps. That is a divergence only if there is no other.
    let is_reached = |slots: &Slots, key: &EvidenceSlot| {
        slots.keys().any(|k| (k.control, &k.step) == (key.control, &key.step))
    };
    let (mut first, mut last) = (None, None);
    for key in keys {
        match (ours.get(key), theirs.get(key)) {
            (Some(mine), Some(other)) => {
                for (field, here, there) in differences(&mine.points, &other.points) {
                    let named = mine.named.contains(&field) || other.named.contains(&field);
                    if named || first.is_none() {
                        let divergence = found(key, &field, here, there);
                        if named {
                            return Some(divergence);
                        }
                        first = Some(divergence);
                    }
                }
            }
            (Some(mine), None) => {
                let place = if is_reached(theirs, key) { &mut first } else { &mut last };
                place.get_or_insert_with(|| found(key, "", Some(in_short(&mine.points)), None));
            }
            (None, Some(other)) => {
                let place = if is_reached(ours, key) { &mut first } else { &mut last };
                place.get_or_insert_with(|| found(key, "", None, Some(in_short(&other.points))));
            }
            (None, None) => {}
        }
    }
    first.or(last)
}

/// What the suite asked, by method and URL; a redirect is the server's answer to it.
fn requests(slots: &Slots) -> BTreeSet<&str> {
    let first = |(field, _): &&ComparableField| field == "URL" || field == "request 1: URL";
    slots
        .values()
        .filter_map(|content| content.points.iter().find(first))
        .map(|(_, value)| value.as_str())
        .collect()
}

/// The place of a piece of evidence: its role, side, kind and step, and its number among those that share them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct EvidenceSlot {
    /// Whether it belongs to the control.
    control: bool,
    position: u8,
    place: String,
    order: u8,
    kind: &'static str,
    /// The title of the step during which it was recorded. Another version of a scenario may have more steps, so the
    /// number of the step does not identify it.
    step: String,
    number: usize,
}

/// The content of one slot.
pub(super) struct SlotContent {
    points: Vec<ComparableField>,
    step_index: usize,
    /// The fields that the check names as the cause of its failure.
    named: Vec<String>,
}

pub(super) type Slots = HashMap<EvidenceSlot, SlotContent>;

/// The comparable evidence of a check.
pub(super) fn slots(index: &EvidenceIndex<'_>, check: &CheckResult) -> Slots {
    let scenario = index.scenario();
    let selected = index.of_check(check);
    let mut counts: HashMap<(bool, String, &'static str, usize), usize> = HashMap::new();
    let mut slots = HashMap::new();
    for item in &selected.pieces {
        let place = evidence_text::side(&item.piece.side, scenario);
        let kind = comparable::kind(&item.piece.fact);
        let step_index = item.piece.step;
        let number = counts.entry((item.control, place.clone(), kind, step_index)).or_default();
        let slot = EvidenceSlot {
            control: item.control,
            position: item.piece.side.path_position(),
            place,
            order: order(kind),
            kind,
            step: scenario.steps.get(step_index).map(|s| s.title.clone()).unwrap_or_default(),
            number: *number,
        };
        *number += 1;
        let points = comparable::fields(&item.piece.fact);
        let named = comparable::named(check, &item.piece.id, &points);
        slots.insert(slot, SlotContent { points, step_index, named });
    }
    slots
}

/// A connection comes before the requests on it.
fn order(kind: &str) -> u8 {
    u8::from(kind != "connection")
}

/// Every field in which the two differ: the fields of the first in its order, then those that only the other
/// has.
fn differences(
    mine: &[ComparableField],
    other: &[ComparableField],
) -> impl Iterator<Item = (String, Option<String>, Option<String>)> {
    let value = |points: &[ComparableField], field: &str| {
        points.iter().find(|(f, _)| f == field).map(|(_, v)| v.clone())
    };
    let own = mine.iter().map(move |(field, here)| (field.clone(), Some(here.clone()), value(other, field)));
    let only = other.iter().filter(move |(field, _)| value(mine, field).is_none());
    own.filter(|(_, here, there)| here != there)
        .chain(only.map(|(field, there)| (field.clone(), None, Some(there.clone()))))
}

fn in_short(points: &[ComparableField]) -> String {
    let parts: Vec<String> = points
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .take(4)
        .map(|(field, value)| format!("{field} {value}"))
        .collect();
    parts.join(", ")
}
