//! One request, with every decision on its way and the line that made it.

use meshproof_model::verification::{Flow, Place};

use crate::Verified;
use crate::flows::{self, Observed, sample};
use crate::trace::{Ask, Scheme, Tracer};
use crate::world::World;

/// A request that is asked about: `sleep http://host/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    from: String,
    ask: Ask2,
}

/// The request's parts.
type Ask2 = (String, String, u16, String);

/// Why a question cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum QuestionError {
    /// It is not of the form.
    #[error(
        "{0:?} is not a question. Ask for example: \"sleep http://edition.cnn.com/politics\" (who asks, and what)"
    )]
    Form(String),
    /// No such proxy.
    #[error("no proxy is called {asked}. The proxies are: {known}")]
    NoProxy {
        /// As asked.
        asked: String,
        /// The names.
        known: String,
    },
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Who decided.
    pub proxy: String,
    /// What.
    pub text: String,
    /// The line that made it, where one did.
    pub at: Option<Place>,
}

/// One way that the request may take.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Every decision, in order.
    pub steps: Vec<Step>,
    /// Its outcome.
    pub flow: Flow,
}

impl std::str::FromStr for Question {
    type Err = QuestionError;

    fn from_str(text: &str) -> Result<Self, QuestionError> {
        let wrong = || QuestionError::Form(text.to_owned());
        let mut words = text.split_whitespace();
        let (Some(from), Some(url), None) = (words.next(), words.next(), words.next()) else {
            return Err(wrong());
        };
        let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
        let default = match scheme {
            "http" => Some(80),
            "https" => Some(443),
            "tcp" => None,
            _ => return Err(wrong()),
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => (&rest[..at], &rest[at..]),
            None => (rest, "/"),
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => {
                (host, Some(port.parse::<u16>().ok().filter(|p| *p != 0).ok_or_else(wrong)?))
            }
            None => (authority, default),
        };
        let port = port.ok_or_else(wrong)?;
        if host.is_empty() {
            return Err(wrong());
        }
        Ok(Self { from: from.to_owned(), ask: (scheme.to_owned(), host.to_owned(), port, path.to_owned()) })
    }
}

impl Verified {
    /// Follows one request.
    ///
    /// # Errors
    /// The files have no such proxy, and it cannot be made up.
    pub fn ask(&self, question: &Question) -> Result<Vec<Answer>, QuestionError> {
        let (scheme, host, port, path) = &question.ask;
        let scheme = match scheme.as_str() {
            "https" => Scheme::Https,
            "tcp" => Scheme::Tcp,
            _ => Scheme::Http,
        };
        let host = sample(host).unwrap_or_else(|| host.clone());
        let ask = Ask::new(scheme, &host, *port, path);
        let world = &self.judged.world;
        let proxy = self.proxy(world, &question.from)?;
        let traces = Tracer::new(world).trace(proxy, &ask);
        let observed = Observed { proxy, ask, meant_for: None, hidden: false, traces };
        Ok(observed
            .traces
            .iter()
            .map(|trace| Answer {
                flow: flows::flow(world, &observed, trace),
                steps: trace
                    .decisions
                    .iter()
                    .map(|d| Step {
                        proxy: d.proxy.map(|p| world.configs[p].name.clone()).unwrap_or_default(),
                        text: d.text.clone(),
                        at: d
                            .because
                            .as_ref()
                            .map(|(id, at)| self.input.place(id, at))
                            .filter(|p| p.line != 0),
                    })
                    .collect(),
            })
            .collect())
    }

    fn proxy(&self, world: &World, asked: &str) -> Result<usize, QuestionError> {
        let names: Vec<&str> = world.configs.iter().map(|c| c.name.as_str()).collect();
        let exact = names.iter().position(|n| *n == asked);
        let short = || names.iter().position(|n| n.split('.').next() == Some(asked));
        exact
            .or_else(short)
            .ok_or_else(|| QuestionError::NoProxy { asked: asked.to_owned(), known: names.join(", ") })
    }
}
