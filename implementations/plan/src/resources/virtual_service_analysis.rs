//! Rules of a VirtualService that no request reaches, of which istiod warns (`analyzeUnreachableHTTPRules` and its likes in
//! pkg/config/validation/validation.go).

use std::collections::BTreeMap;

use super::common::StringMatch;
use super::problems::Problems;
use super::virtual_service::{HttpMatch, HttpRoute, VirtualService};

pub(super) fn warn_unreachable(service: &VirtualService, problems: &mut Problems) {
    let http: Vec<Rule<HttpMatch>> = service
        .http
        .iter()
        .enumerate()
        .map(|(i, route)| Rule {
            name: route_name(route, i),
            matches: route
                .matches
                .iter()
                .enumerate()
                .map(|(j, m)| (match_name(m, j), HttpMatch { name: String::new(), ..m.clone() }))
                .collect(),
        })
        .collect();
    unreachable(&http, problems);
    warn_overlapping(&service.http, problems);
    let tcp = service.tcp.iter().enumerate().map(|(i, r)| Rule::numbered(i, &r.matches));
    unreachable(&tcp.collect::<Vec<_>>(), problems);
    let tls = service.tls.iter().enumerate().map(|(i, r)| Rule::numbered(i, &r.matches));
    unreachable(&tls.collect::<Vec<_>>(), problems);
}

/// A route with its conditions, by the names that istiod gives them.
struct Rule<M> {
    name: String,
    matches: Vec<(String, M)>,
}

impl<M: Clone> Rule<M> {
    fn numbered(place: usize, matches: &[M]) -> Self {
        let matches = matches.iter().enumerate().map(|(j, m)| (format!("#{j}"), m.clone())).collect();
        Self { name: format!("#{place}"), matches }
    }
}

fn route_name(route: &HttpRoute, place: usize) -> String {
    if route.name.is_empty() { format!("#{place}") } else { format!("{:?}", route.name) }
}

fn match_name(condition: &HttpMatch, place: usize) -> String {
    if condition.name.is_empty() { format!("#{place}") } else { format!("{:?}", condition.name) }
}

fn not_used(rule: &str, reason: &str, problems: &mut Problems) {
    problems.warn(format!("virtualService rule {rule} not used ({reason})"));
}

fn ineffective(rule: &str, condition: &str, other: &str, problems: &mut Problems) {
    problems.warn(format!(
        "virtualService rule {rule} match {condition} is not used (duplicate/overlapping match in rule {other})"
    ));
}

fn unreachable<M: PartialEq>(rules: &[Rule<M>], problems: &mut Problems) {
    let mut seen: Vec<(&M, &str)> = Vec::new();
    let mut catch_all = false;
    for rule in rules {
        if rule.matches.is_empty() {
            if catch_all {
                not_used(&rule.name, "only the last rule can have no matches", problems);
            }
            catch_all = true;
            continue;
        }
        let mut duplicates = 0;
        for (name, condition) in &rule.matches {
            if catch_all {
                not_used(&rule.name, "route without matches defined before", problems);
            } else if let Some((_, other)) = seen.iter().find(|(known, _)| *known == condition) {
                ineffective(&rule.name, name, other, problems);
                duplicates += 1;
            } else {
                seen.push((condition, &rule.name));
            }
        }
        if duplicates == rule.matches.len() {
            not_used(&rule.name, "all matches used by prior rules", problems);
        }
    }
}

/// A condition with a path prefix, as texts (`OverlappingMatchValidationForHTTPRoute`).
struct Prefixed<'a> {
    rule: String,
    name: String,
    prefix: &'a str,
    port: u32,
    method: String,
    authority: String,
    maps: [BTreeMap<&'a str, String>; 3],
}

fn text(condition: Option<&StringMatch>) -> String {
    let some = |t: &Option<String>| t.clone().filter(|t| !t.is_empty());
    match condition {
        Some(m) => match (some(&m.exact), some(&m.prefix)) {
            (Some(exact), _) => format!("exact:{exact}"),
            (None, Some(prefix)) => format!("prefix:{prefix}"),
            (None, None) => String::new(),
        },
        None => String::new(),
    }
}

impl<'a> Prefixed<'a> {
    fn of(rule: &str, name: String, condition: &'a HttpMatch) -> Option<Self> {
        let prefix = condition.uri.as_ref()?.prefix.as_deref().filter(|p| !p.is_empty())?;
        let map = |texts: &'a BTreeMap<String, StringMatch>| {
            texts.iter().map(|(name, m)| (name.as_str(), text(Some(m)))).collect()
        };
        let method = Some(text(condition.method.as_ref())).filter(|m| !m.is_empty());
        Some(Self {
            rule: rule.to_owned(),
            name,
            prefix,
            port: condition.port,
            method: method.unwrap_or_else(|| "exact:GET".to_owned()),
            authority: text(condition.authority.as_ref()),
            maps: [map(&condition.headers), map(&condition.query_params), map(&condition.without_headers)],
        })
    }

    /// `coveredValidation`.
    fn covers(&self, other: &Self) -> bool {
        let same = |a: &BTreeMap<&str, String>, b: &BTreeMap<&str, String>| {
            a.len() == b.len()
                && a.iter().all(|(name, value)| b.get(name).is_some_and(|o| value.starts_with(o.as_str())))
        };
        other.prefix.starts_with(self.prefix)
            && self.port == other.port
            && self.method.starts_with(&other.method)
            && self.authority.starts_with(&other.authority)
            && self.maps.iter().zip(&other.maps).all(|(a, b)| same(a, b))
    }
}

fn warn_overlapping(routes: &[HttpRoute], problems: &mut Problems) {
    let mut known: Vec<&HttpMatch> = Vec::new();
    let mut all: Vec<Prefixed<'_>> = Vec::new();
    for (i, route) in routes.iter().enumerate() {
        if route.matches.is_empty() {
            break;
        }
        for (j, condition) in route.matches.iter().enumerate() {
            if !known.contains(&condition) {
                known.push(condition);
                all.extend(Prefixed::of(&route_name(route, i), match_name(condition, j), condition));
            }
        }
    }
    for (i, former) in all.iter().enumerate() {
        for latter in all[i + 1..].iter().filter(|l| l.prefix != former.prefix) {
            if former.covers(latter) {
                let condition = format!("{} of prefix {}", latter.name, latter.prefix);
                let other = format!("{} of prefix {} on {}", former.name, former.prefix, former.rule);
                ineffective(&latter.rule, &condition, &other, problems);
            }
        }
    }
}
