//! From checks to causes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Cause, CausedCheck, CommonDeviation, words};
use crate::deviation::{Deviation, Field, Role, ValueKind};
use crate::result::{CheckResult, Level, ScenarioResult, Verdict};

/// One in so many of the checks is a good part of them.
const LARGE: usize = 10;

/// What deviations of one cause share.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    to: Role,
    field: Field,
    name: Option<String>,
    expected: ValueKind,
    seen: ValueKind,
}

impl Key {
    fn of(d: &Deviation) -> Self {
        // The end of the hop is what matters, not which proxy it is.
        let to = if d.to.role.is_proxy() { Role::Proxy } else { d.to.role };
        let name = d.name.clone();
        Self { to, field: d.field, name, expected: d.expected_kind, seen: d.seen_kind }
    }
}

struct Failing<'r> {
    scenario: &'r ScenarioResult,
    check: &'r CheckResult,
    /// The deviations that may be its cause: its own, and deeper ones of the same request.
    candidates: Vec<&'r Deviation>,
}

/// Whether the check needs a cause. What is merely recorded (MAY) is an observation, not a failure.
fn fails(check: &CheckResult) -> bool {
    if check.level == Level::May {
        return false;
    }
    match check.verdict {
        Verdict::Failed | Verdict::Inconclusive => true,
        Verdict::Passed | Verdict::Skipped | Verdict::Error => false,
    }
}

/// The causes of a report's failed and inconclusive MUST and SHOULD checks. Each such check belongs to exactly one. First are those in
/// which a check failed, and among them those nearest to the origin that have a good part of the checks; then those with most checks.
#[must_use]
pub fn causes(scenarios: &[ScenarioResult]) -> Vec<Cause> {
    let failing: Vec<Failing<'_>> = scenarios.iter().flat_map(of_scenario).collect();
    let mut open: BTreeSet<usize> = (0..failing.len()).collect();
    let mut found: Vec<(Option<Key>, Vec<usize>)> = Vec::new();
    // The cause of most checks first, so that a check with several deviations joins the others.
    loop {
        let mut sizes: BTreeMap<Key, BTreeSet<usize>> = BTreeMap::new();
        for &n in &open {
            for d in &failing[n].candidates {
                sizes.entry(Key::of(d)).or_default().insert(n);
            }
        }
        let best = sizes.into_iter().max_by(|(a, x), (b, y)| {
            (x.len(), a.field.depth()).cmp(&(y.len(), b.field.depth())).then_with(|| b.cmp(a))
        });
        let Some((key, members)) = best else { break };
        open.retain(|n| !members.contains(n));
        found.push((Some(key), members.into_iter().collect()));
    }
    // Without a typed deviation, the checks of one id belong together.
    let mut untyped: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for n in open {
        untyped.entry(&failing[n].check.id).or_default().push(n);
    }
    found.extend(untyped.into_values().map(|members| (None, members)));
    let mut causes: Vec<Cause> =
        found.iter().map(|(key, members)| cause(key.as_ref(), members, &failing)).collect();
    unique_ids(&mut causes);
    consequences(&mut causes);
    let inconclusive = |c: &Cause| c.checks.iter().all(|c| c.verdict == Verdict::Inconclusive);
    let origin = |c: &Cause| {
        let is_large = LARGE * c.checks.len() >= failing.len();
        c.deviation.as_ref().filter(|_| is_large).map_or(0, |d| d.field.depth())
    };
    causes.sort_by_key(|c| {
        (c.consequence_of.is_some(), inconclusive(c), Reverse(origin(c)), Reverse(c.checks.len()))
    });
    causes
}

fn of_scenario(scenario: &ScenarioResult) -> Vec<Failing<'_>> {
    let tokens: HashMap<_, _> =
        scenario.evidence.iter().filter_map(|e| Some((&e.id, e.token.as_deref()?))).collect();
    let token = |d: &Deviation| d.evidence.as_ref().and_then(|id| tokens.get(id).copied());
    let failing = || scenario.checks.iter().filter(|c| fails(c));
    let all: Vec<&Deviation> = failing().flat_map(|c| &c.deviations).collect();
    let candidates = |check: &'_ CheckResult| {
        let own: Vec<&Deviation> = all_of(check, &all);
        let own_tokens: BTreeSet<&str> = own.iter().filter_map(|d| token(d)).collect();
        let shallow = own.iter().map(|d| d.field.depth()).max();
        // The same request, seen by another check nearer to where it went wrong.
        let deeper = all.iter().copied().filter(|d| {
            shallow.is_some_and(|s| d.field.depth() > s) && token(d).is_some_and(|t| own_tokens.contains(t))
        });
        let mut candidates: Vec<&Deviation> = own.iter().copied().chain(deeper).collect();
        let deepest = candidates.iter().map(|d| d.field.depth()).max();
        candidates.retain(|d| Some(d.field.depth()) == deepest);
        candidates
    };
    failing().map(|check| Failing { scenario, check, candidates: candidates(check) }).collect()
}

/// The check's own deviations, as members of `all`.
fn all_of<'r>(check: &CheckResult, all: &[&'r Deviation]) -> Vec<&'r Deviation> {
    let is_own = |d: &&&'r Deviation| check.deviations.iter().any(|own| std::ptr::eq(own, **d));
    all.iter().filter(is_own).copied().collect()
}

fn cause(key: Option<&Key>, members: &[usize], failing: &[Failing<'_>]) -> Cause {
    let checks = members.iter().map(|&n| {
        let Failing { scenario, check, .. } = &failing[n];
        CausedCheck {
            check: format!("{}/{}", scenario.selector(), scenario.check_name(check)),
            verdict: check.verdict,
            expected: check.expected_failure.is_some(),
        }
    });
    let checks: Vec<CausedCheck> = checks.collect();
    // A check that failed itself, whose own evidence shows the cause, and little else.
    let best = members.iter().zip(&checks).min_by_key(|(n, _)| {
        let check = failing[**n].check;
        let own = key.and_then(|key| check.deviations.iter().position(|d| Key::of(d) == *key));
        (check.verdict != Verdict::Failed, own.unwrap_or(usize::MAX), check.deviations.len())
    });
    let example = best.map(|(_, c)| c.check.clone()).unwrap_or_default();
    let first = members.first().map(|&n| failing[n].check);
    let Some(key) = key else {
        let requirement = first.map(|c| c.requirement.trim_end_matches('.').to_owned()).unwrap_or_default();
        return Cause {
            id: first.map(|c| words::slug(&c.id)).unwrap_or_default(),
            title: format!("Requirement not met: {requirement}"),
            advice: String::new(),
            deviation: None,
            checks,
            example,
            consequence_of: None,
        };
    };
    let of_key = |n: &usize| failing[*n].candidates.iter().filter(|d| Key::of(d) == *key).copied();
    let mut counts: BTreeMap<Role, usize> = BTreeMap::new();
    for d in members.iter().flat_map(of_key) {
        *counts.entry(d.from.role).or_default() += 1;
    }
    let mut from: BTreeSet<Role> = counts.keys().copied().collect();
    // A proxy that the evidence does not name is probably one of those that it names elsewhere, if it names most of them.
    let unnamed = counts.get(&Role::Proxy).copied().unwrap_or_default();
    let named: usize =
        counts.iter().filter(|(r, _)| r.is_proxy() && **r != Role::Proxy).map(|(_, n)| n).sum();
    let kinds = from.iter().filter(|r| r.is_proxy() && **r != Role::Proxy).count();
    if kinds > 1 || named > unnamed {
        from.remove(&Role::Proxy);
    } else {
        from.retain(|r| !r.is_proxy() || *r == Role::Proxy);
    }
    let of_best = best.into_iter().flat_map(|(n, _)| of_key(n));
    let shown = of_best.chain(members.iter().flat_map(of_key)).next();
    let deviation = CommonDeviation {
        from: from.into_iter().collect(),
        to: key.to,
        field: key.field,
        name: key.name.clone(),
        expected_kind: key.expected,
        seen_kind: key.seen,
        expected: shown.map(|d| d.expected.clone()).unwrap_or_default(),
        seen: shown.map(|d| d.seen.clone()).unwrap_or_default(),
    };
    Cause {
        id: words::id(&deviation),
        title: words::title(&deviation),
        advice: words::advice(&deviation).to_owned(),
        deviation: Some(deviation),
        checks,
        example,
        consequence_of: None,
    }
}

fn unique_ids(causes: &mut [Cause]) {
    let mut taken = BTreeSet::new();
    for cause in causes {
        let mut id = cause.id.clone();
        let mut number = 1;
        while !taken.insert(id.clone()) {
            number += 1;
            id = format!("{}-{number}", cause.id);
        }
        cause.id = id;
    }
}

/// A shallow cause nearly all of whose scenario configurations show a deeper one is probably its consequence.
fn consequences(causes: &mut [Cause]) {
    let places: Vec<BTreeSet<String>> = causes
        .iter()
        .map(|c| {
            let place = |c: &CausedCheck| c.check.split('/').next().unwrap_or_default().to_owned();
            c.checks.iter().map(place).collect()
        })
        .collect();
    let depth = |c: &Cause| c.deviation.as_ref().map_or(0, |d| d.field.depth());
    for n in 0..causes.len() {
        let deeper = (0..causes.len()).filter(|&other| {
            depth(&causes[other]) > depth(&causes[n])
                && 5 * places[n].intersection(&places[other]).count() >= 4 * places[n].len()
        });
        let deeper = deeper.max_by_key(|&other| causes[other].checks.len());
        causes[n].consequence_of = deeper.map(|other| causes[other].id.clone());
    }
    // A chain is shown as one step.
    let root = |causes: &[Cause], mut id: String| {
        while let Some(up) = causes.iter().find(|c| c.id == id).and_then(|c| c.consequence_of.clone()) {
            id = up;
        }
        id
    };
    for n in 0..causes.len() {
        if let Some(up) = causes[n].consequence_of.clone() {
            causes[n].consequence_of = Some(root(causes, up));
        }
    }
}
