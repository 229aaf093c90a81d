//! The manifests of the five documents.

pub(crate) const CNN: &str = "edition.cnn.com";
pub(crate) const GOOGLE: &str = "www.googleapis.com";
pub(crate) const BUCKET: &str = "samplebucket1234.s3.ap-southeast-2.amazonaws.com";

pub(crate) const ACCESS: &str = "
apiVersion: networking.istio.io/v1alpha3
kind: ServiceEntry
metadata: {name: edition-cnn-com}
spec:
  hosts: [edition.cnn.com]
  ports:
  - {number: 80, name: http-port, protocol: HTTP}
  - {number: 443, name: https-port, protocol: HTTPS}
  resolution: DNS
---
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: edition-cnn-com}
spec:
  hosts: [edition.cnn.com]
  tls:
  - match:
    - port: 443
      sniHosts: [edition.cnn.com]
    route:
    - destination:
        host: edition.cnn.com
        port: {number: 443}
      weight: 100
";

pub(crate) const PORT_REWRITE: &str = "
apiVersion: networking.istio.io/v1alpha3
kind: ServiceEntry
metadata: {name: edition-cnn-com}
spec:
  hosts: [edition.cnn.com]
  ports:
  - {number: 80, name: http-port, protocol: HTTP}
  - {number: 443, name: http-port-for-tls-origination, protocol: HTTP}
  resolution: DNS
---
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: edition-cnn-com}
spec:
  hosts: [edition.cnn.com]
  http:
  - match:
    - port: 80
    route:
    - destination:
        host: edition.cnn.com
        port: {number: 443}
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {name: edition-cnn-com}
spec:
  host: edition.cnn.com
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    portLevelSettings:
    - port: {number: 443}
      tls: {mode: SIMPLE}
";

pub(crate) const TARGET_PORT: &str = "
apiVersion: networking.istio.io/v1alpha3
kind: ServiceEntry
metadata: {name: edition-cnn-com}
spec:
  hosts: [edition.cnn.com]
  ports:
  - {number: 80, name: http-port, protocol: HTTP, targetPort: 443}
  - {number: 443, name: https-port, protocol: HTTPS}
  resolution: DNS
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {name: edition-cnn-com}
spec:
  host: edition.cnn.com
  trafficPolicy:
    portLevelSettings:
    - port: {number: 80}
      tls: {mode: SIMPLE}
";

pub(crate) const BOOKS_BY_APPLICATION: &str = "
apiVersion: networking.istio.io/v1alpha3
kind: ServiceEntry
metadata: {name: googleapis}
spec:
  hosts: [www.googleapis.com]
  ports:
  - {number: 443, name: https, protocol: HTTPS}
  location: MESH_EXTERNAL
  resolution: DNS
---
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: googleapis}
spec:
  hosts: [www.googleapis.com]
  tls:
  - match:
    - port: 443
      sniHosts: [www.googleapis.com]
    route:
    - destination:
        host: www.googleapis.com
        port: {number: 443}
      weight: 100
";

pub(crate) const BOOKS_ORIGINATED: &str = "
apiVersion: networking.istio.io/v1alpha3
kind: ServiceEntry
metadata: {name: googleapis}
spec:
  hosts: [www.googleapis.com]
  ports:
  - {number: 80, name: http, protocol: HTTP}
  - {number: 443, name: https, protocol: HTTPS}
  resolution: DNS
---
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: rewrite-port-for-googleapis}
spec:
  hosts: [www.googleapis.com]
  http:
  - match:
    - port: 80
    route:
    - destination:
        host: www.googleapis.com
        port: {number: 443}
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {name: originate-tls-for-googleapis}
spec:
  host: www.googleapis.com
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    portLevelSettings:
    - port: {number: 443}
      tls: {mode: SIMPLE}
";

pub(crate) const BUCKET_BEHIND_GATEWAY: &str = "
apiVersion: networking.istio.io/v1alpha3
kind: ServiceEntry
metadata: {name: s3, namespace: istio-system}
spec:
  hosts: [samplebucket1234.s3.ap-southeast-2.amazonaws.com]
  location: MESH_EXTERNAL
  exportTo: ['.']
  ports:
  - {number: 443, name: https, protocol: HTTPS}
  resolution: DNS
---
apiVersion: networking.istio.io/v1alpha3
kind: Gateway
metadata: {name: example-gateway}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: [example.com]
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {name: s3, namespace: istio-system}
spec:
  host: samplebucket1234.s3.ap-southeast-2.amazonaws.com
  exportTo: ['.']
  trafficPolicy:
    portLevelSettings:
    - port: {number: 443}
      tls: {mode: SIMPLE}
---
";

pub(crate) const ROOT_ROUTE: &str = "
  - match:
    - uri: {prefix: /}
    route:
    - destination:
        host: welcome
        port: {number: 8080}
";

pub(crate) const BUCKET_ROUTES: &str = "
  - match:
    - uri: {prefix: /.well-known/openid-configuration}
    route:
    - destination:
        host: samplebucket1234.s3.ap-southeast-2.amazonaws.com
        port: {number: 443}
    headers:
      request:
        set:
          X-Forwarded-Proto: https
          Host: samplebucket1234.s3.ap-southeast-2.amazonaws.com
  - match:
    - uri: {prefix: /oauth/discovery/keys}
    route:
    - destination:
        host: samplebucket1234.s3.ap-southeast-2.amazonaws.com
        port: {number: 443}
    headers:
      request:
        set:
          X-Forwarded-Proto: https
          Host: samplebucket1234.s3.ap-southeast-2.amazonaws.com
";

/// The document's VirtualService with hosts, which it lacks, and its routes in this order.
pub(crate) fn bucket(root_first: bool) -> String {
    let routes = if root_first {
        format!("{ROOT_ROUTE}{BUCKET_ROUTES}")
    } else {
        format!("{BUCKET_ROUTES}{ROOT_ROUTE}")
    };
    format!("{BUCKET_BEHIND_GATEWAY}{}{routes}", bucket_virtual_service("  hosts: [example.com]\n"))
}

pub(crate) fn bucket_virtual_service(hosts: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1alpha3\nkind: VirtualService\nmetadata: {{name: s3}}\nspec:\n{hosts}  \
         gateways: [example-gateway]\n  http:"
    )
}

pub(crate) const EGRESS_SIMPLE: &str = "
apiVersion: networking.istio.io/v1alpha3
kind: ServiceEntry
metadata: {name: cnn}
spec:
  hosts: [edition.cnn.com]
  ports:
  - {number: 80, name: http, protocol: HTTP}
  - {number: 443, name: https, protocol: HTTPS}
  resolution: DNS
---
apiVersion: networking.istio.io/v1alpha3
kind: Gateway
metadata: {name: istio-egressgateway}
spec:
  selector: {istio: egressgateway}
  servers:
  - port: {number: 80, name: https-port-for-tls-origination, protocol: HTTPS}
    hosts: [edition.cnn.com]
    tls: {mode: ISTIO_MUTUAL}
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {name: egressgateway-for-cnn}
spec:
  host: istio-egressgateway.istio-system.svc.cluster.local
  subsets:
  - name: cnn
    trafficPolicy:
      loadBalancer: {simple: ROUND_ROBIN}
      portLevelSettings:
      - port: {number: 80}
        tls: {mode: ISTIO_MUTUAL, sni: edition.cnn.com}
---
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: direct-cnn-through-egress-gateway}
spec:
  hosts: [edition.cnn.com]
  gateways: [istio-egressgateway, mesh]
  http:
  - match:
    - gateways: [mesh]
      port: 80
    route:
    - destination:
        host: istio-egressgateway.istio-system.svc.cluster.local
        subset: cnn
        port: {number: 80}
      weight: 100
  - match:
    - gateways: [istio-egressgateway]
      port: 80
    route:
    - destination:
        host: edition.cnn.com
        port: {number: 443}
      weight: 100
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {name: originate-tls-for-edition-cnn-com}
spec:
  host: edition.cnn.com
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    portLevelSettings:
    - port: {number: 443}
      tls: {mode: SIMPLE}
";

/// With a Service and other resources that are none of Istio's, as the document applies them.
pub(crate) const EGRESS_MUTUAL: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: mesh-external}
---
apiVersion: v1
kind: Service
metadata: {name: my-nginx, namespace: mesh-external, labels: {run: my-nginx}}
spec:
  ports:
  - {port: 443, protocol: TCP}
  selector: {run: my-nginx}
---
apiVersion: v1
kind: Secret
metadata: {name: client-credential, namespace: istio-system}
stringData:
  tls.key: client's key
  tls.crt: client's certificate
  ca.crt: example.com's certificate
---
apiVersion: networking.istio.io/v1alpha3
kind: Gateway
metadata: {name: istio-egressgateway}
spec:
  selector: {istio: egressgateway}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [my-nginx.mesh-external.svc.cluster.local]
    tls: {mode: ISTIO_MUTUAL}
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {name: egressgateway-for-nginx}
spec:
  host: istio-egressgateway.istio-system.svc.cluster.local
  subsets:
  - name: nginx
    trafficPolicy:
      loadBalancer: {simple: ROUND_ROBIN}
      portLevelSettings:
      - port: {number: 443}
        tls: {mode: ISTIO_MUTUAL, sni: my-nginx.mesh-external.svc.cluster.local}
---
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: direct-nginx-through-egress-gateway}
spec:
  hosts: [my-nginx.mesh-external.svc.cluster.local]
  gateways: [istio-egressgateway, mesh]
  http:
  - match:
    - gateways: [mesh]
      port: 80
    route:
    - destination:
        host: istio-egressgateway.istio-system.svc.cluster.local
        subset: nginx
        port: {number: 443}
      weight: 100
  - match:
    - gateways: [istio-egressgateway]
      port: 443
    route:
    - destination:
        host: my-nginx.mesh-external.svc.cluster.local
        port: {number: 443}
      weight: 100
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {name: originate-mtls-for-nginx, namespace: istio-system}
spec:
  host: my-nginx.mesh-external.svc.cluster.local
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    portLevelSettings:
    - port: {number: 443}
      tls:
        mode: MUTUAL
        credentialName: client-credential
        sni: my-nginx.mesh-external.svc.cluster.local
";
