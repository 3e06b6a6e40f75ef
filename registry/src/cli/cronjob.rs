//! `hythe key create --output cronjob`: what keeps a pull Secret of a Kubernetes namespace fresh.
//!
//! The access key lies in a Secret of its own. Every few hours a Job mints a pull credential with it and writes it into the pull
//! Secret, which is made empty here so that the Job's service account may change this one Secret and nothing else.

use auth::{AccessKeyDocument, Shown};
use config::PublicUrl;
use serde_json::Value;

/// Seconds that a credential lives, where the key does not shorten them.
const LIFE: u64 = 12 * 3600;
/// The manifests. The pull Secret is made with an empty `{"auths":{}}`: its type cannot be changed later, its content can.
const TEMPLATE: &str = include_str!("cronjob.yaml");

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
        let [url, image, kubectl] = [self.url.to_string(), self.image.to_owned(), self.kubectl.to_owned()]
            .map(|text| Value::from(text).to_string());
        let values = [
            ("@name@", name),
            ("@account@", account.as_str()),
            ("@namespace@", &namespace),
            ("@subject@", &subject),
            ("@key@", key),
            ("@life@", &life.to_string()),
            ("@schedule@", &schedule),
            ("@url@", &url),
            ("@image@", &image),
            ("@kubectl@", &kubectl),
        ];
        values.iter().fold(TEMPLATE.to_owned(), |text, (mark, value)| text.replace(mark, value))
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
