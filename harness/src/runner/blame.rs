//! The verdict of checks that were not reached: whose fault it is that the scenario stopped.

use std::any::Any;

use meshproof_model::{Deviation, Field, ValueKind, Verdict};

use crate::claim::deviation;
use crate::feature::ReportedFeature;
use crate::mesh::{Stop, Unreached};
use crate::target::TargetError;

pub(super) fn skipped(reason: String) -> Unreached {
    Unreached { verdict: Verdict::Skipped, reason, fault: None, feature: None, deviations: Vec::new() }
}

/// Why the implementation stopped the scenario, as a type.
fn of_stop(error: &TargetError) -> Deviation {
    let (field, seen) = match error {
        TargetError::Gone(_) => (Field::Process, ValueKind::Absent),
        TargetError::TimedOut { .. } => (Field::Change, ValueKind::Timeout),
        TargetError::Refused(_)
        | TargetError::Unsupported(_)
        | TargetError::Unable(_)
        | TargetError::Environment(_) => (Field::Change, ValueKind::Refusal),
    };
    deviation::of_implementation(field, seen, &error.to_string())
}

/// Decides the verdict of the checks that were not reached.
pub(super) fn blame(stop: Stop, declared: &[ReportedFeature]) -> Unreached {
    match stop {
        Stop::Target(e @ (TargetError::Refused(_) | TargetError::Gone(_) | TargetError::TimedOut { .. })) => {
            let deviations = vec![of_stop(&e)];
            Unreached {
                verdict: Verdict::Failed,
                reason: e.to_string(),
                fault: None,
                feature: None,
                deviations,
            }
        }
        // A declared feature that is then refused is a failure; otherwise an implementation could pass by skipping.
        Stop::Target(TargetError::Unsupported(feature)) if declared.contains(&feature.into()) => Unreached {
            verdict: Verdict::Failed,
            reason: format!(
                "the implementation declares the feature {feature} and then reports that it does not support it"
            ),
            fault: None,
            feature: None,
            deviations: vec![deviation::of_implementation(
                Field::Change,
                ValueKind::Refusal,
                &feature.to_string(),
            )],
        },
        Stop::Target(TargetError::Unsupported(feature)) => {
            skipped(format!("the implementation does not support {feature}"))
        }
        Stop::Target(TargetError::Unable(what)) => skipped(format!("not judged with this target: {what}")),
        Stop::Target(TargetError::Environment(message)) | Stop::Suite(message) => Unreached {
            verdict: Verdict::Error,
            reason: message.clone(),
            fault: Some(message),
            feature: None,
            deviations: Vec::new(),
        },
        e @ Stop::FailFast => skipped(e.to_string()),
    }
}

pub(super) fn panic_words(panic: &(dyn Any + Send)) -> String {
    let words =
        panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    words.unwrap_or("no message").to_owned()
}
