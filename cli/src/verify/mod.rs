//! `meshproof verify`: what a user's own configuration does, and what is wrong with it.

mod conclusion;
mod prove;

use meshproof_local::real_hosts::RealHosts;
use meshproof_model::Report;
use meshproof_model::verification::{Severity, Verification};
use meshproof_model::visible::line;
use meshproof_render::formats::Format;
use meshproof_render::terminal::{Detail, summary};
use meshproof_render::text::plural;
use meshproof_render::verification::{VerificationFormat, answer as answer_text, text};
use meshproof_targets::{cluster, is_cluster};
use meshproof_verify::proof::Proof;
use meshproof_verify::{InForce, Question, Verified, verify, verify_in_force};

use crate::args::{Cluster, Connection, Verify};
use crate::exit::{self, Refusal};
use crate::manifests::sources;
use crate::output::{OutFolder, answer, complain, quoted, style, write_file};
use crate::runtime::runtime;
use crate::target::{target, timeouts};

/// Prints the verification. Its exit code is [`exit::FAILED`] if there is a finding of the severity of `--fail-on` or above.
///
/// # Errors
/// A file cannot be read, or is not a manifest.
pub fn command(args: &Verify) -> Result<u8, Refusal> {
    let question = args.ask.as_deref().map(str::parse::<Question>).transpose();
    let question = question.map_err(|e| Refusal::Usage(e.to_string()))?;
    let verified = match in_cluster(args)? {
        Some(namespace) => verify_in_force(&in_force(args, namespace)?),
        None => verify(&sources(&args.files)?).map_err(|e| Refusal::Usage(e.to_string()))?,
    };
    if let Some(question) = question {
        if args.format != VerificationFormat::Text {
            let problem = format!("--ask prints text: leave --format {} out", args.format);
            return Err(Refusal::Usage(problem));
        }
        let answers = verified.ask(&question).map_err(|e| Refusal::Usage(e.to_string()))?;
        for one in answers {
            let steps: Vec<_> = one.steps.into_iter().map(|s| (s.proxy, s.text, s.at)).collect();
            answer(&answer_text(&steps, &one.flow, style(&std::io::stdout())));
        }
        return Ok(exit::OK);
    }
    let proved = if args.only_static { None } else { Some(prove(args, &verified)?) };
    let mut verification = verified.verification.clone();
    if let Some(proved) = proved {
        for (code, request, sentence) in
            proved.report.iter().flat_map(|report| prove::about_findings(&proved.proof, report))
        {
            for finding in &mut verification.findings {
                if finding.code == code && finding.effect.starts_with(&request) {
                    finding.proof = Some(sentence.clone());
                }
            }
        }
        verification.proof = proved.report.map(Box::new);
        verification.not_proved = proved.proof.skipped;
    }
    let verification = &verification;
    let rendered = |format: VerificationFormat| format.render(verification).map_err(Refusal::Environment);
    for (format, file) in &args.write {
        write_file(file, rendered(*format)?.as_bytes(), "--write FORMAT=FILE")?;
    }
    answer(&if args.format == VerificationFormat::Text {
        text(verification, style(&std::io::stdout()))
    } else {
        rendered(args.format)?
    });
    let least = Severity::from(args.fail_on);
    let failing = verification.findings.iter().chain(&verification.notes).any(|f| f.severity >= least);
    let of_findings = if failing { exit::FAILED } else { exit::OK };
    for skipped in &verification.not_proved {
        complain(&format!("note: not proved: {}", line(skipped)));
    }
    let Some(report) = &verification.proof else {
        // As for a run that executed no check.
        let asked = !args.only_static && of_findings == exit::OK;
        return Ok(if asked { exit::ERROR } else { of_findings });
    };
    let of_proof = tell(report, args, verification)?;
    let contradicted = verification.findings.iter().any(prove::is_contradicted);
    if args.format == VerificationFormat::Text && contradicted {
        answer("A real request contradicts a finding, see \"CONTRADICTED\" above.\n");
    } else if args.format == VerificationFormat::Text
        && of_proof == exit::OK
        && !verification.findings.is_empty()
    {
        // Otherwise the last word would be that everything passed.
        answer(&format!(
            "The proof passed: requests go as described above. {} in the configuration, see above.\n",
            plural(verification.findings.len(), "finding")
        ));
    }
    // A fault of the environment is said in the code only where nothing else is.
    Ok(if of_findings == exit::OK { of_proof } else { of_findings })
}

/// The namespace of a cluster that is verified; none: files are.
fn in_cluster(args: &Verify) -> Result<Option<&str>, Refusal> {
    let target = args.target.as_deref().unwrap_or("reference");
    match (is_cluster(target), args.namespace.as_deref()) {
        (true, Some(namespace)) => Ok(Some(namespace)),
        (true, None) => Err(Refusal::Usage(format!(
            "--target {target} reads what is in force in a namespace: add --namespace NAMESPACE. To verify files, leave --target {target} out"
        ))),
        (false, Some(_)) => Err(Refusal::Usage(
            "--namespace is for a cluster: add --target cluster, or name files with -f instead".to_owned(),
        )),
        (false, None) => Ok(None),
    }
}

/// Reads what is in force there.
fn in_force(args: &Verify, namespace: &str) -> Result<InForce, Refusal> {
    let target = args.target.as_deref().unwrap_or("cluster");
    let options = args.connection.options(&Cluster::default()).of(target);
    let timeouts = timeouts(target, &args.timeouts);
    let read = runtime()?.block_on(cluster::in_force(&options, &timeouts, namespace));
    let read = read.map_err(|e| Refusal::Usage(e.to_string()))?.map_err(Refusal::Environment)?;
    let cluster = match &options.context {
        Some(context) => format!("the cluster of context {context}"),
        None => "the cluster of the current context".to_owned(),
    };
    if read.own == 0 {
        return Err(Refusal::Usage(format!(
            "{cluster} has no resource of Istio, no Service and no pod in namespace {namespace}. Check the name with `kubectl get namespaces`"
        )));
    }
    Ok(InForce {
        cluster: format!("namespace {namespace} of {cluster} and what reaches it"),
        namespace: namespace.to_owned(),
        resources: read.resources,
        whole: read.whole,
        secrets: read.secrets,
        unread: read.unread,
    })
}

/// What can be proved, and the report of the requests; none where there is no such request.
struct Proved {
    proof: Proof,
    report: Option<Report>,
}

/// Sends real requests.
fn prove(args: &Verify, verified: &Verified) -> Result<Proved, Refusal> {
    let proof = verified.proof();
    if proof.exchanges.is_empty() {
        complain(
            "no request of this configuration can be proved on this machine. Add --static to read and plan it only",
        );
        return Ok(Proved { proof, report: None });
    }
    let of_cluster = args.namespace.as_deref();
    let (option, name) = match (of_cluster, &args.target) {
        (Some(_), _) => ("--prove-with", args.prove_with.as_str()),
        (None, Some(target)) => ("--target", target.as_str()),
        (None, None) => ("--target", "reference"),
    };
    if !matches!(name.split(':').next(), Some("reference" | "envoy")) {
        return Err(Refusal::Usage(format!(
            "a proof runs on this machine: {option} reference or {option} envoy, not {name}"
        )));
    }
    if of_cluster.is_some() {
        complain(&format!(
            "note: the proof runs on this machine ({name}), with a copy of the configuration; it sends nothing to the cluster"
        ));
    }
    let timeouts = timeouts(name, &args.timeouts);
    let settings = meshproof_targets::Settings {
        nginx: None,
        nginx_image: None,
        envoy: args.envoy.clone(),
        real_hosts: RealHosts::default(),
        cluster: Connection::default().options(&Cluster::default()),
        timeouts: timeouts.clone(),
    };
    let target = target(name, &settings)?;
    let files = args.files.iter().map(|f| format!(" -f {}", quoted(&f.display().to_string())));
    let read = match (of_cluster, &args.target) {
        (Some(namespace), Some(target)) => {
            format!(" --target {} --namespace {}", quoted(target), quoted(namespace))
        }
        _ => files.collect::<String>(),
    };
    let command = format!("meshproof verify{read} {option} {}", quoted(name));
    let report = prove::run(&proof, target, timeouts, &command, &args.checks)?;
    Ok(Proved { proof, report: Some(report) })
}

/// Prints and writes what real requests showed; the exit code is that of a run.
fn tell(report: &Report, args: &Verify, verification: &Verification) -> Result<u8, Refusal> {
    let mut shown = None;
    let mut missing = None;
    if let Some(folder) = &args.out {
        let report = conclusion::with_findings(report, verification, Severity::from(args.fail_on));
        let written = OutFolder::open(folder)?.write(&report, &[Format::Html, Format::Junit]);
        shown = written.shown.map(|path| path.display().to_string());
        missing = written.missing;
    }
    if args.format == VerificationFormat::Text {
        let mut text = Vec::new();
        summary(&mut text, report, shown.as_deref(), style(&std::io::stdout()), Detail::Screen)
            .map_err(|e| Refusal::Environment(format!("the summary cannot be written: {e}")))?;
        answer(&String::from_utf8_lossy(&text));
    }
    missing.map_or(Ok(report.exit_code()), |words| Err(Refusal::Environment(words)))
}
