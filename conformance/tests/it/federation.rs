//! Tokens of a real OpenID provider exchanged for credentials, and issuers that misbehave.

use std::process::{Child, Command, Stdio};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use conformance::{
    Answer, Caller, Harness, Request, Store, fixture,
    fixture::Format,
    harness::{free_address, log_file, until},
    push,
    tools::{self, Run},
};
use serde_json::{Value, json};
use storage::{Clock as _, clock::SystemClock};

/// An exchange as a client sends it.
pub(crate) fn exchange(trust: &str, token: &str, scope: &str) -> Request {
    posted(&form(trust, token, scope))
}

fn posted(form: &str) -> Request {
    let request = Request::post("/api/v1/exchange").header("Content-Type", "application/x-www-form-urlencoded");
    request.body(form.to_owned())
}

fn form(trust: &str, token: &str, scope: &str) -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")
        .append_pair("subject_token", token)
        .append_pair("subject_token_type", "urn:ietf:params:oauth:token-type:jwt")
        .append_pair("account", "acme")
        .append_pair("trust", trust)
        .append_pair("scope", scope);
    form.finish()
}

/// A provider under TLS, with a certificate that its registry trusts.
struct Provider {
    child: Child,
    issuer: String,
    certificate: std::path::PathBuf,
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Provider {
    async fn start(harness: &Harness) -> Self {
        let dir = harness.scratch("issuer");
        let (certificate, key, log) = (dir.join("cert.pem"), dir.join("key.pem"), dir.join("issuer.log"));
        let words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
                     -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE";
        let made = Run::new("openssl").args(words.split_whitespace());
        made.arg("-keyout").arg(&key).arg("-out").arg(&certificate).ok().await;
        let port = free_address().port();
        let child = Command::new(tools::find("node"))
            .arg(tools::folder().join("oidc/issuer.mjs"))
            .arg(port.to_string())
            .args([&certificate, &key])
            .stdin(Stdio::null())
            .stdout(log_file(&log))
            .stderr(log_file(&log))
            .spawn()
            .unwrap();
        let provider = Self { child, issuer: format!("https://localhost:{port}"), certificate };
        until("the provider answers", async || provider.curl("/asked").end().await.success).await;
        provider
    }

    fn curl(&self, path: &str) -> Run {
        let run = Run::new("curl").args(["-fsS", "--cacert"]).arg(&self.certificate);
        run.arg(format!("{}{path}", self.issuer))
    }

    /// How often a path was asked for.
    async fn asked(&self, path: &str) -> u64 {
        let asked: Value = serde_json::from_str(&self.curl("/asked").ok().await.stdout).unwrap();
        asked[path].as_u64().unwrap_or_default()
    }

    /// A token of the provider's for its client `robot`.
    async fn token(&self, audience: &str) -> String {
        let run = self.curl("/token").args(["-u", "robot:robot-secret", "-d", "grant_type=client_credentials"]);
        let answer = run.args(["-d", &format!("resource=urn:for:{audience}")]).ok().await.stdout;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        answer["access_token"].as_str().unwrap().to_owned()
    }
}

/// A registry that trusts what the provider serves at these paths.
async fn trusting(paths: &[&str], networks: &[&str]) -> (Harness, Provider) {
    let mut harness = Harness::stopped(Store::Local).await;
    let provider = Provider::start(&harness).await;
    let mut args: Vec<String> = networks.iter().map(|network| format!("--trusted-issuer-network={network}")).collect();
    args.push("--account-domain=accounts.example".to_owned());
    args.extend(paths.iter().map(|path| format!("--trusted-issuer={}{path}", provider.issuer)));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    harness.set(&[("SSL_CERT_FILE", &provider.certificate.display().to_string())], &args);
    harness.boot().await;
    harness.account("acme").await;
    (harness, provider)
}

/// Makes a policy for tokens whose subject is `robot`, and gives its id.
async fn trust(harness: &Harness, issuer: &str, kind: &str) -> String {
    let of = ["trust", "create", "acme", "--issuer", issuer, "--trusted-issuer", issuer, "--match", "sub=robot"];
    let made = harness.hythe(&[&of[..], &["--kind", kind, "--output", "json"]].concat()).await.stdout;
    let made: Value = serde_json::from_str(&made).unwrap();
    made["id"].as_str().unwrap().to_owned()
}

/// A token that nobody signed.
fn forged(issuer: &str, audience: &str, kid: &str) -> String {
    let now = SystemClock::default().now().timestamp();
    let claims = json!({"iss": issuer, "aud": audience, "sub": "robot", "iat": now, "exp": now + 600});
    let text = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{}", text(json!({"alg": "RS256", "kid": kid})), text(claims), URL_SAFE_NO_PAD.encode([7; 256]))
}

#[tokio::test]
async fn a_token_of_a_real_provider_becomes_a_credential_that_pulls() {
    let (harness, provider) = trusting(&[""], &["127.0.0.0/8"]).await;
    let acme = harness.account("acme").await;
    push::bundle(&acme.caller(&acme.push().await), "acme/web/api", "1", &fixture::image("one", Format::Oci)).await;
    let audience = format!("{}/acme", harness.host());
    let id = trust(&harness, &provider.issuer, "pull").await;
    let token = provider.token(&audience).await;
    let at = |account: &str, request: Request| {
        request.header("Host", format!("{account}.accounts.example:{}", harness.client().address().port()))
    };
    let asked = exchange(&id, &token, "repository:acme/web/api:pull");
    harness.send(at("acme", asked.clone())).await.expect(200);
    let answer = harness.send(asked).await.expect(200);
    assert_eq!(answer.header("cache-control"), "no-store");
    let credential = answer.json();
    assert_eq!(credential["access_token"], credential["password"]);
    assert_eq!(credential["token_type"], "N_A");
    assert_eq!(credential["repositories"], json!(["acme/web/api"]));
    assert!(credential["docker_login"].as_str().unwrap().contains(credential["username"].as_str().unwrap()));
    let [user, password] = ["username", "password"].map(|field| credential[field].as_str().unwrap().to_owned());
    let robot = Caller::basic(harness.client(), &user, &password);
    robot
        .with_token(&["repository:acme/web/api:pull"])
        .await
        .send(Request::get("/v2/acme/web/api/tags/list"))
        .await
        .expect(200);
    robot.send(Request::get("/v2/acme/other/tags/list")).await.refused(403, "DENIED");

    // Whatever is wrong is one answer.
    let other = provider.token("registry.example/beta").await;
    let mut wrong: Vec<Answer> = Vec::new();
    for request in [
        exchange(&id, &other, ""),
        exchange(&id, &forged(&provider.issuer, &audience, "keystore-CHANGE-ME"), ""),
        exchange(&id, &forged(&provider.issuer, &audience, "another"), ""),
        exchange(&id, "no-token", ""),
        exchange("0k3v9x0a2m4p6r1t", &token, ""),
        exchange("no-id", &token, ""),
        // At the host of another account there is no acme.
        at("beta", exchange(&id, &token, "")),
    ] {
        wrong.push(harness.send(request).await.refused(401, "UNAUTHORIZED"));
    }
    assert!(wrong.iter().all(|answer| answer.text() == wrong[0].text()));
    assert_eq!(provider.asked("/jwks").await, 1, "a kid that is not there is asked for once a minute at most");

    harness.send(exchange(&id, &token, "repository:acme/web/api:delete")).await.expect(400);
    let once = trust(&harness, &provider.issuer, "push").await;
    assert!(
        harness.send(exchange(&once, &token, "")).await.expect(200).json()["password"]
            .as_str()
            .unwrap()
            .starts_with("hyps_")
    );
    harness.send(exchange(&once, &token, "")).await.refused(401, "UNAUTHORIZED");

    harness.hythe(&["trust", "delete", "acme", &id]).await;
    let ping = || Request::get("/v2/acme/web/api/tags/list");
    until("what the policy gave is over", async || robot.send(ping()).await.status == 401).await;
}

#[tokio::test]
async fn what_is_no_exchange_is_told_why() {
    let harness = Harness::start().await;
    for (form, error) in [
        ("", "unsupported_grant_type"),
        ("grant_type=password", "unsupported_grant_type"),
        ("grant_type=urn:ietf:params:oauth:grant-type:token-exchange", "invalid_request"),
    ] {
        let answer = harness.send(posted(form)).await.expect(400).json();
        assert_eq!(answer["error"], error, "{form}");
    }
    harness.send(Request::post("/api/v1/exchange").body("{}")).await.expect(400);
    let elsewhere = format!("{}&audience=elsewhere", form("0k3v9x0a2m4p6r1t", "t", ""));
    assert_eq!(harness.send(posted(&elsewhere)).await.expect(400).json()["error"], "invalid_target");
    assert_eq!(harness.send(Request::get("/api/v1/exchange")).await.expect(405).header("allow"), "POST");
}

#[tokio::test]
async fn an_issuer_that_misbehaves_is_given_up_and_told_in_the_log() {
    let paths = ["/redirect", "/large", "/other", "/plain", "/stall"];
    let (harness, provider) = trusting(&paths, &["127.0.0.0/8"]).await;
    let audience = format!("{}/acme", harness.host());
    for (path, reason) in paths.into_iter().zip([
        "it was answered with 302",
        "it has more than 262144 bytes",
        "its discovery document is that of https://localhost",
        "http://localhost:1/jwks is no https address",
        "operation timed out",
    ]) {
        let issuer = format!("{}{path}", provider.issuer);
        let id = trust(&harness, &issuer, "pull").await;
        for _ in 0..2 {
            let answer = harness.send(exchange(&id, &forged(&issuer, &audience, "k"), "")).await;
            assert_eq!(answer.refused(503, "UNAVAILABLE").header("retry-after"), "10", "{path}");
        }
        assert_eq!(provider.asked(&format!("{path}/.well-known/openid-configuration")).await, 1, "{path}");
        until(reason, async || harness.log().contains(reason)).await;
    }
    assert_eq!(provider.asked("/.well-known/openid-configuration").await, 0, "no redirect is followed");
}

#[tokio::test]
async fn an_issuer_at_an_address_that_is_not_public_is_never_connected_to() {
    let (harness, provider) = trusting(&["", "/large"], &[]).await;
    let audience = format!("{}/acme", harness.host());
    let id = trust(&harness, &provider.issuer, "pull").await;
    let token = provider.token(&audience).await;
    harness.send(exchange(&id, &token, "")).await.refused(503, "UNAVAILABLE");
    until("it is told", async || harness.log().contains("is not a public address")).await;
    assert_eq!(provider.asked("/.well-known/openid-configuration").await, 0);
    // Nor is one that the operator no longer trusts.
    let untrusted = trust(&harness, "https://issuer.example", "pull").await;
    let token = forged("https://issuer.example", &audience, "k");
    harness.send(exchange(&untrusted, &token, "")).await.refused(401, "UNAUTHORIZED");
}
