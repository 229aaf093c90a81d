//! The command that repeats a run.

use std::path::Path;

use meshproof_harness::traffic::Traffic;

use crate::args;
use crate::output::quoted;

/// The command that repeats the run. Without the selectors, so that the selector of a check can be added.
pub(super) fn repeat(program: &str, args: &args::Run, target: &str, selectors: bool) -> String {
    let mut words = vec![format!("{program} run")];
    if target != "reference" {
        words.push(format!("--target {}", quoted(target)));
    }
    let path = |option: &str, path: &Path| format!("{option} {}", quoted(&path.display().to_string()));
    match args.external {
        args::External::Auto => {}
        args::External::Embedded => words.push("--external embedded".to_owned()),
        args::External::Nginx => words.push("--external nginx".to_owned()),
        args::External::Container => {
            words.push("--external container".to_owned());
            words.extend(args.nginx_image.iter().map(|image| format!("--nginx-image {}", quoted(image))));
        }
    }
    if matches!(args.external, args::External::Auto | args::External::Nginx)
        && !meshproof_targets::is_cluster(target)
    {
        words.extend(args.nginx.iter().map(|nginx| path("--nginx", nginx)));
    }
    if target == "envoy" || target.starts_with("envoy:") {
        words.extend(args.envoy.iter().map(|envoy| path("--envoy", envoy)));
    }
    if meshproof_targets::is_cluster(target) {
        words.extend(cluster_words(args));
    }
    words.extend(args.name.iter().map(|name| format!("--name {}", quoted(name))));
    if args.live {
        words.push("--live".to_owned());
    }
    words.extend(args.fixtures.iter().map(|folder| path("--fixtures", folder)));
    words.extend(args.expect.iter().map(|file| path("--expect", file)));
    for (name, duration) in &args.timeouts {
        words.push(format!(
            "--timeout {name}={}",
            humantime::format_duration(*duration).to_string().replace(' ', "")
        ));
    }
    let Traffic { seed, budget, .. } = Traffic::default();
    if args.seed != seed {
        words.push(format!("--seed {}", args.seed));
    }
    if args.budget != budget {
        words.push(format!("--budget {}", args.budget));
    }
    if args.matrix == args::MatrixChoice::Full {
        words.push("--matrix full".to_owned());
    }
    words.extend(args.vectors.iter().map(|file| path("--vectors", file)));
    if selectors {
        words.extend(args.shard.map(|s| format!("--shard {}/{}", s.number, s.of)));
        words.extend(args.selectors.iter().cloned());
    }
    words.join(" ")
}

/// The options for the cluster and for the resources in it.
fn cluster_words(args: &args::Run) -> Vec<String> {
    let (at, put) = (&args.connection, &args.cluster);
    let mut words = Vec::new();
    words.extend(at.kubeconfig.iter().map(|f| format!("--kubeconfig {}", quoted(&f.display().to_string()))));
    words.extend(at.context.iter().map(|c| format!("--context {}", quoted(c))));
    words.extend(put.revision.iter().map(|r| format!("--revision {}", quoted(r))));
    words.extend(
        put.namespace_labels
            .iter()
            .map(|(k, v)| format!("--namespace-label {}", quoted(&format!("{k}={v}")))),
    );
    if put.gateways == args::Gateways::Installed {
        words.push(format!("--gateways installed --gateway-namespace {}", quoted(&put.gateway_namespace)));
    }
    words.extend(put.ca.iter().map(|file| format!("--ca {}", quoted(&file.display().to_string()))));
    words.extend(
        put.images.iter().map(|(key, image)| format!("--image {}", quoted(&format!("{key}={image}")))),
    );
    words.extend(put.pull_policy.iter().map(|p| format!("--pull-policy {}", quoted(p))));
    words.extend(put.pull_secrets.iter().map(|s| format!("--pull-secret {}", quoted(s))));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_repeats_a_run_has_its_options_quoted_for_a_shell() {
        let path = |text: &str| Some(text.into());
        let given = |external| args::Run {
            external,
            nginx: path("/opt/my nginx"),
            nginx_image: Some("nginx:1".to_owned()),
            envoy: path("/opt/envoy"),
            fixtures: path("it's"),
            expect: path("known failures.yaml"),
            ..args::Run::default()
        };
        let rest = r"--fixtures 'it'\''s' --expect 'known failures.yaml'";
        for (external, target, words) in [
            (args::External::Auto, "reference", "--nginx '/opt/my nginx'"),
            (args::External::Auto, "envoy", "--target envoy --nginx '/opt/my nginx' --envoy /opt/envoy"),
            (
                args::External::Embedded,
                "envoy:no-sni",
                "--target envoy:no-sni --external embedded --envoy /opt/envoy",
            ),
            (args::External::Nginx, "reference", "--external nginx --nginx '/opt/my nginx'"),
            (args::External::Container, "reference", "--external container --nginx-image nginx:1"),
        ] {
            let wanted = format!("meshproof run {words} {rest}");
            assert_eq!(repeat("meshproof", &given(external), target, true), wanted);
        }
    }
}
