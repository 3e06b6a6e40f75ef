//! `hythe key create --output cronjob`: what keeps a pull Secret of a Kubernetes namespace fresh.
//!
//! The access key lies in a Secret of its own. Every few hours a Job mints a pull credential with it and writes it into the pull
//! Secret, which is made empty here so that the Job's service account may change this one Secret and nothing else.

use auth::{AccessKeyDocument, Shown};
use config::PublicUrl;
use serde_json::Value;

/// Hours that a credential lives, where the key does not shorten them.
const LIFE: u64 = 12 * 3600;
/// An empty `{"auths":{}}`: the type of the pull Secret cannot be changed later, its content can.
const EMPTY: &str = "eyJhdXRocyI6e319";
/// How both containers run: they write the shared folder, and nothing else.
const LOCKED: &str = "securityContext:
                allowPrivilegeEscalation: false
                readOnlyRootFilesystem: true
                capabilities:
                  drop: [ALL]
              volumeMounts:
                - name: work
                  mountPath: /work";

/// What the manifests are made of.
#[derive(Debug)]
pub(super) struct CronJob<'a> {
    pub(super) key: &'a AccessKeyDocument,
    pub(super) url: &'a PublicUrl,
    /// The image with `hythe` in it.
    pub(super) image: &'a str,
    /// The image with `kubectl` in it.
    pub(super) kubectl: &'a str,
    /// The pull Secret.
    pub(super) name: &'a str,
    pub(super) namespace: Option<&'a str>,
}

impl CronJob<'_> {
    /// The manifests as YAML.
    pub(super) fn yaml(&self) -> String {
        let (name, account) = (self.name, &self.key.account);
        let namespace = self.namespace.map(|namespace| format!("\n  namespace: {namespace}")).unwrap_or_default();
        let subject = self.namespace.map(|namespace| format!("\n    namespace: {namespace}")).unwrap_or_default();
        let key = self.key.key.as_ref().map(Shown::reveal).unwrap_or_default();
        let life = self.key.max_ttl_seconds.map_or(LIFE, |most| most.min(LIFE));
        let schedule = schedule(life, self.key.id.as_str());
        // JSON strings are YAML strings.
        let [url, image, kubectl] =
            [self.url.to_string(), self.image.to_owned(), self.kubectl.to_owned()].map(Value::from);
        format!(
            r#"# Keeps the pull Secret {name} of this namespace fresh with an access key of account {account}.
# The first credential now: kubectl create job --from=cronjob/{name} {name}-first
apiVersion: v1
kind: Secret
metadata:
  name: {name}-key{namespace}
type: Opaque
stringData:
  HYTHE_URL: {url}
  HYTHE_KEY: {key}
---
apiVersion: v1
kind: Secret
metadata:
  name: {name}{namespace}
type: kubernetes.io/dockerconfigjson
data:
  .dockerconfigjson: {EMPTY}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {name}{namespace}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {name}{namespace}
rules:
  - apiGroups: [""]
    resources: [secrets]
    resourceNames: [{name}]
    verbs: [get, patch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {name}{namespace}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {name}
subjects:
  - kind: ServiceAccount
    name: {name}{subject}
---
apiVersion: batch/v1
kind: CronJob
metadata:
  name: {name}{namespace}
spec:
  schedule: "{schedule}"
  concurrencyPolicy: Forbid
  successfulJobsHistoryLimit: 1
  failedJobsHistoryLimit: 1
  jobTemplate:
    spec:
      backoffLimit: 6
      activeDeadlineSeconds: 600
      template:
        spec:
          serviceAccountName: {name}
          restartPolicy: OnFailure
          securityContext:
            runAsNonRoot: true
            runAsUser: 65532
            runAsGroup: 65532
            fsGroup: 65532
            seccompProfile:
              type: RuntimeDefault
          initContainers:
            - name: mint
              image: {image}
              args: [credential, create, {account}, --kind, pull, --ttl, {life}s, --label, {name}, --output, secret, --name, {name}, --to, /work/secret.yaml]
              envFrom:
                - secretRef:
                    name: {name}-key
              {LOCKED}
          containers:
            - name: apply
              image: {kubectl}
              args: [apply, --server-side, --force-conflicts, --filename=/work/secret.yaml]
              env:
                - name: HOME
                  value: /work
              {LOCKED}
          volumes:
            - name: work
              emptyDir:
                medium: Memory
"#
        )
    }
}

/// Three times in a credential's life, so that two runs may fail. The minute is the key's own, so that not every cluster comes at
/// the same one.
fn schedule(life: u64, id: &str) -> String {
    let minute = id.bytes().fold(0u32, |sum, b| sum + u32::from(b)) % 60;
    match life / 3 / 3600 {
        0 if life < 1800 => "* * * * *".to_owned(),
        0 => "*/10 * * * *".to_owned(),
        1..=3 => format!("{minute} * * * *"),
        _ => format!("{minute} */4 * * *"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_outlives_two_runs_that_fail() {
        assert_eq!(schedule(12 * 3600, "0000000000000000"), "48 */4 * * *");
        assert_eq!(schedule(4 * 3600, "0000000000000000"), "48 * * * *");
        assert_eq!(schedule(3600, "0"), "*/10 * * * *");
        assert_eq!(schedule(60, "0"), "* * * * *");
    }
}
