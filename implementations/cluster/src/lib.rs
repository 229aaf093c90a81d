//! The target `cluster`: whatever speaks Istio's API in a Kubernetes cluster, reached through the cluster's own API.
