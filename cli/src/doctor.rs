//! `meshproof doctor`: checks that a run can work here, and says how to fix what prevents it.

use meshproof_harness::feature::{Feature, ReportedFeature};
use meshproof_harness::run_folder;
use meshproof_harness::target::TargetError;
use meshproof_local::external::find_nginx;
use meshproof_model::Implementation;
use meshproof_model::visible::line;
use meshproof_targets::{Settings, cluster, default_timeouts, is_cluster};

use crate::args;
use crate::exit::{self, Refusal};
use crate::output::answer;
use crate::runtime::runtime;
use crate::target::target;

/// Checks the target and prints what it finds. It leaves nothing behind.
///
/// # Errors
/// There is no such target, or it cannot be checked.
pub fn command(args: &args::Doctor) -> Result<u8, Refusal> {
    let name = args.target.as_str();
    let timeouts = default_timeouts(name);
    let options = args.connection.options(&args.cluster).of(name);
    if is_cluster(name) {
        let checked = runtime()?.block_on(async {
            match &args.namespace {
                Some(namespace) => cluster::doctor_of_reading(&options, &timeouts, namespace).await,
                None => cluster::doctor(&options, &timeouts).await,
            }
        });
        let checked = checked.map_err(|e| Refusal::Usage(e.to_string()))?.map_err(Refusal::Environment)?;
        answer(&checked.text);
        return Ok(if checked.fit { exit::OK } else { exit::ERROR });
    }
    if args.namespace.is_some() {
        return Err(Refusal::Usage(format!(
            "--namespace is for --target cluster, and the target is {name}. Leave it out, or add --target cluster"
        )));
    }
    let settings = Settings { timeouts, cluster: options, envoy: args.envoy.clone(), ..Settings::default() };
    let work = std::env::temp_dir();
    let folder = run_folder::create(&work, "doctor").map_err(|e| {
        let shown = work.display();
        Refusal::Environment(format!(
            "no folder can be made in {shown}: {e}. Set TMPDIR to a folder that you may write to"
        ))
    })?;
    run_folder::remove(&folder);
    let target = target(name, &settings)?;
    let found = runtime()?
        .block_on(target.identify())
        .map_err(|e: TargetError| Refusal::Environment(e.to_string()))?;
    let services = match find_nginx() {
        Some(program) => format!("{} (--external embedded does not need it)", program.display()),
        None => "no nginx on PATH; runs use the embedded servers".to_owned(),
    };
    answer(&format!("{}\nA run can work here.\n", described(&found, &services)));
    Ok(exit::OK)
}

/// What was found, one fact per line.
fn described(found: &Implementation, external_services: &str) -> String {
    let features = match found.features.len() {
        declared if declared == Feature::ALL.len() => "all".to_owned(),
        declared => {
            let names = ReportedFeature::list(&found.features);
            format!("{declared} of {}: {names}", Feature::ALL.len())
        }
    };
    let details = found.details.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let facts = [("implementation", found.name.as_str()), ("version", &found.version)]
        .into_iter()
        .chain(details)
        .chain([("features", features.as_str()), ("external services", external_services)]);
    facts.map(|(name, value)| format!("{name:<18} {}\n", line(value))).collect()
}
