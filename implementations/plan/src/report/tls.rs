//! TLS on both sides.

use serde_json::{Value, json};

use crate::model::{
    ClientCertificate, DownstreamTls, NameCheck, Origination, ServerName, TlsVersion, Trust,
    UpstreamProtocol, UpstreamTls,
};

pub(super) fn downstream(tls: &DownstreamTls) -> Value {
    match tls {
        DownstreamTls::MeshMutual => json!("mesh-mutual"),
        DownstreamTls::Own(own) => {
            let certificates = own.certificates.iter().map(|c| match c {
                ClientCertificate::Credential(name) => resource_name(name),
                ClientCertificate::Files { certificate, key } => format!("file-cert:{certificate}~{key}"),
            });
            let ca = own.client_ca.as_ref().map(|ca| match ca {
                Trust::Credential(name) => format!("{}-cacert", resource_name(name)),
                Trust::File(path) => format!("file-root:{path}"),
                Trust::SystemRoots => "file-root:system".to_owned(),
                Trust::Anybody => "none".to_owned(),
            });
            json!({
                "alpn": own.alpn,
                "certs": certificates.collect::<Vec<_>>(),
                "client_ca": ca,
                "require": own.require_client_certificate,
            })
        }
    }
}

/// `ToResourceName` (pilot/pkg/model/credentials/resource.go).
pub(super) fn resource_name(name: &str) -> String {
    // Without an SDS provider `sds://` is a Secret like any other (ConstructSdsSecretConfigForCredential in
    // pilot/pkg/security/model/authentication.go).
    let name = name.strip_prefix("sds://").unwrap_or(name);
    let known = ["kubernetes://", "kubernetes-gateway://", "configmap://", "builtin://", "invalid://"];
    if known.iter().any(|scheme| name.starts_with(scheme)) {
        name.to_owned()
    } else {
        format!("kubernetes://{name}")
    }
}

pub(super) fn upstream(tls: &UpstreamTls, protocol: UpstreamProtocol) -> Value {
    match tls {
        UpstreamTls::MeshMutual { sni, peer_identities, .. } => {
            // What the cluster itself offers, before Istio's ALPN filter (ALPNInMeshWithMxc).
            let mut alpn = vec!["istio-peer-exchange", "istio"];
            if protocol == UpstreamProtocol::Http2 {
                alpn.push("h2");
            }
            json!({"mesh": {"sni": sni, "ids": sorted(peer_identities), "alpn": alpn}})
        }
        UpstreamTls::Originate(origination) => json!({"originate": originate(origination)}),
    }
}

pub(super) fn originate(o: &Origination) -> Value {
    let discovered = |name: &str| {
        let name = resource_name(name);
        match name.strip_prefix("kubernetes://") {
            Some(secret) => format!("sds:{secret}"),
            None => name,
        }
    };
    let ca = match &o.trust {
        Trust::SystemRoots => "system".to_owned(),
        Trust::Credential(name) if name.starts_with("configmap://") => format!("{name}-cacert"),
        Trust::Credential(name) => discovered(name),
        Trust::File(path) => format!("file:{path}"),
        Trust::Anybody => "none".to_owned(),
    };
    let names = match &o.names {
        _ if o.trust == Trust::Anybody => json!("unverified"),
        NameCheck::FromHost => json!("AUTO"),
        NameCheck::OneOf(names) | NameCheck::OneOfAndHost(names) => json!(sorted(names)),
        NameCheck::ChainOnly => json!("chain-only"),
    };
    let client: Vec<String> = o
        .client_certificate
        .iter()
        .map(|c| match c {
            ClientCertificate::Credential(name) => discovered(name),
            ClientCertificate::Files { certificate, key } => format!("file:{certificate}~{key}"),
        })
        .collect();
    let mut value = json!({
        "sni": match &o.sni {
            ServerName::FromHost => "AUTO",
            ServerName::Fixed(name) => name.as_str(),
            ServerName::Absent => "",
        },
        "ca": ca,
        "names": names,
        "client": client,
        "alpn": o.alpn,
        "min": version_name(o.min_version.unwrap_or(TlsVersion::Tls12)),
        "max": version_name(o.max_version.unwrap_or(TlsVersion::Tls13)),
    });
    if let Some(path) = o.crl_file.as_ref().filter(|_| o.trust != Trust::Anybody) {
        value["crl"] = json!(path);
    }
    value
}

pub(super) fn sorted(names: &[String]) -> Vec<&String> {
    let mut names: Vec<&String> = names.iter().collect();
    names.sort();
    names
}

pub(super) fn version_name(version: TlsVersion) -> &'static str {
    match version {
        TlsVersion::Tls12 => "TLSv1_2",
        TlsVersion::Tls13 => "TLSv1_3",
    }
}
