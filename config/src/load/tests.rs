use std::io::Write;

use super::*;
use crate::{LogFormat, Operations, Store};

fn variables(pairs: &'static [(&'static str, &'static str)]) -> Sources {
    Sources::environment(move |name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v)))
}

/// A file that exists as long as the test.
struct File(PathBuf);

impl File {
    #[expect(clippy::disallowed_methods, reason = "a test of the loader needs a file")]
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("hythe-config-{}-{name}", std::process::id()));
        std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn refused(sources: &Sources) -> String {
    let text = load(sources).unwrap_err().to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

#[test]
fn nothing_set_is_a_working_registry_in_data() {
    let config = load(&Sources::isolated()).unwrap();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:5080");
    assert_eq!(config.server.operations, Operations::Default("127.0.0.1:5081".parse().unwrap()));
    assert_eq!(config.store, Store::Folder("./data".into()));
    assert_eq!(config.limits.header_size, 16 << 10);
    assert!(config.account.is_none() && config.seal_key.is_none() && !config.server.read_only);
}

#[test]
fn flags_win_over_variables_over_the_file_over_defaults() {
    let file = File::new("order", "listen = '127.0.0.1:1'\noperations = 'off'\n[log]\nformat = 'json'\n");
    let sources = variables(&[("HYTHE_LISTEN", "127.0.0.1:2"), ("HYTHE_LOG_FORMAT", "text")]);
    let config = load(&sources.file(&file.0).set("listen", "127.0.0.1:3")).unwrap();
    assert_eq!(config.server.listen.port(), 3);
    assert_eq!(config.server.operations, Operations::Off);
    assert_eq!(config.log.format, LogFormat::Text);
    let listen = config.effective.iter().find(|e| e.key == "listen").unwrap();
    assert_eq!(listen.origin.to_string(), "--listen");
}

/// An image sets `HYTHE_DATA` for all who say nothing; `--store` says something.
#[test]
fn where_everything_is_kept_is_one_choice_and_the_later_layer_makes_it() {
    static BUCKET: [(&str, &str); 2] = [("HYTHE_STORE", "s3://bucket"), ("HYTHE_RECORDS", "sqlite:/r.db")];
    let config = load(&variables(&[("HYTHE_DATA", "/data")]).set("store", "s3://bucket")).unwrap();
    assert!(matches!(config.store, Store::Remote { records: None, .. }), "{:?}", config.store);
    assert_eq!(load(&variables(&BUCKET).set("data", "/data")).unwrap().store, Store::Folder("/data".into()));
    let text = refused(&variables(&BUCKET[..1]).set("data", "/data").set("records", "sqlite:/r.db"));
    assert_eq!(text, "records (--records) needs store; set both or neither");
}

#[test]
fn a_list_is_comma_separated_in_a_variable() {
    let config = load(&variables(&[("HYTHE_PUBLIC_URL", "https://a.example, http://b.example:81")])).unwrap();
    let urls: Vec<String> = config.server.public_urls.iter().map(ToString::to_string).collect();
    assert_eq!(urls, ["https://a.example", "http://b.example:81"]);
}

#[test]
fn an_empty_variable_is_no_setting() {
    let config = load(&variables(&[("HYTHE_STORE", ""), ("HYTHE_LISTEN", "")])).unwrap();
    assert_eq!(config.store, Store::Folder("./data".into()));
}

#[test]
fn an_unknown_key_is_refused_by_line_and_the_near_one_named() {
    let file = File::new("unknown", "# one\n\n[limits]\nbody_timeut = '1s'\n");
    let text = refused(&Sources::isolated().file(&file.0));
    assert!(
        text.ends_with("line 4: there is no setting limits.body_timeut; did you mean limits.body_timeout?"),
        "{text}"
    );
}

#[test]
fn a_file_that_is_no_toml_is_refused_by_line() {
    let file = File::new("syntax", "listen = '127.0.0.1:1'\nlisten 5\n");
    assert!(refused(&Sources::isolated().file(&file.0)).contains("line 2: "));
}

#[test]
fn a_file_that_is_not_there_is_refused_with_the_way_out() {
    let text = refused(&Sources::isolated().file("/nonexistent/hythe.toml"));
    assert!(text.starts_with("/nonexistent/hythe.toml: ") && text.contains("--config"), "{text}");
}

#[test]
fn data_and_store_exclude_one_another() {
    let text = refused(&variables(&[("HYTHE_DATA", "/d"), ("HYTHE_STORE", "s3://bucket")]));
    assert_eq!(text, "data (HYTHE_DATA) and store (HYTHE_STORE) are both set; keep one");
    assert!(matches!(load(&Sources::isolated().set("store", "s3://bucket")).unwrap().store, Store::Remote { .. }));
}

#[test]
fn what_needs_another_setting_says_so() {
    let text = refused(&Sources::isolated().set("tls_cert", "a.pem"));
    assert_eq!(text, "tls_cert (--tls-cert) needs tls_key; set both or neither");
    let text = refused(&Sources::isolated().set("records", "sqlite:/r"));
    assert_eq!(text, "records (--records) needs store; set both or neither");
}

#[test]
fn a_bad_value_names_its_setting_its_place_and_what_is_right() {
    let text = refused(&variables(&[("HYTHE_LISTEN", "5080")]));
    assert_eq!(text, "listen (HYTHE_LISTEN): expected an address and port, like 127.0.0.1:5080 or [::]:5080");
    for (key, value) in [
        ("operations", "maybe"),
        ("public_url", "registry.example"),
        ("trusted_proxy", "10.0.0.0/99"),
        ("trusted_issuer", "http://issuer.example"),
        ("trusted_issuer", "https://issuer.example/?x"),
        ("trusted_issuer", "issuer.example"),
        ("trusted_issuer_network", "10.0.0.0/99"),
        ("read_only", "yes"),
        ("store", "bucket"),
        ("limits.connections", "0"),
        ("limits.header_size", "1KiB"),
        ("limits.body_timeout", "0s"),
        ("limits.idle_timeout", "soon"),
        ("log.format", "xml"),
    ] {
        let text = refused(&Sources::isolated().set(key, value));
        assert!(text.starts_with(&format!("{key} (--{}): expected ", Setting::of(key).unwrap().flag())), "{text}");
    }
}

#[test]
fn a_secret_comes_from_a_file_without_its_line_end_and_is_not_shown() {
    let file = File::new("secret", "hunter2\n");
    let setting = Setting::of("seal_key").unwrap();
    let path = file.0.display().to_string();
    let config = load(&Sources::isolated().flag_file(setting, path.clone())).unwrap();
    assert!(config.seal_key.as_ref().unwrap().matches("hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));
    let both = Sources::isolated().flag_file(setting, path).set("seal_key", "other");
    assert!(refused(&both).ends_with("are both set; keep one"));
}

#[test]
fn a_command_for_the_seal_key_is_split_at_spaces_and_stands_alone() {
    let command = |text: &str| Sources::isolated().set("seal_key_command", text);
    let config = load(&command("  /usr/bin/kms  get --id=a,b '$X' ")).unwrap();
    assert_eq!(config.seal_key_command.unwrap(), ["/usr/bin/kms", "get", "--id=a,b", "'$X'"]);
    assert!(refused(&command("kms").set("seal_key", "k")).ends_with("are both set; keep one"));
    let variable = |name: &str| (name == "HYTHE_SEAL_KEY_COMMAND").then(|| "kms get".into());
    assert!(load(&Sources::environment(variable)).unwrap().seal_key_command.is_some());
}

#[test]
fn an_address_counts_as_a_network_of_one() {
    let config = load(&Sources::isolated().set("trusted_proxy", "10.1.2.3")).unwrap();
    assert_eq!(config.server.trusted_proxies, ["10.1.2.3/32".parse().unwrap()]);
}

#[test]
fn declared_accounts_are_read_with_their_lines() {
    let text = "
listen = '127.0.0.1:1'
[[accounts]]
name = 'acme'
gen = '0k3v9x0a2m4p'
public = ['acme/open/*']
max_ttl_pull = '7d'
keys = [{id = '0k3v9x0a2m4p6r1t', hash = 'ab', expires = 2027-01-31}]

[[accounts]]
name = 'beta'
gen = '1k3v9x0a2m4p'
[[accounts.keys]]
id = '1k3v9x0a2m4p6r1t'
hash = 'cd'
role = 'publisher'
delete = true
repositories = ['beta/web/**']
";
    let file = File::new("accounts", text);
    let config = load(&Sources::isolated().file(&file.0)).unwrap();
    let [acme, beta] = &config.accounts[..] else { panic!("{:?}", config.accounts) };
    assert_eq!((acme.name.as_str(), acme.generation.as_str()), ("acme", "0k3v9x0a2m4p"));
    assert!(acme.origin.to_string().ends_with(" line 4"), "{}", acme.origin);
    assert_eq!(acme.public.as_deref(), Some(&["acme/open/*".to_owned()][..]));
    assert_eq!((acme.max_ttl_pull.as_deref(), acme.display.as_deref()), (Some("7d"), None));
    assert_eq!(acme.keys[0].expires.as_deref(), Some("2027-01-31"));
    assert!(!acme.keys[0].delete && acme.keys[0].role.is_none());
    assert!(beta.keys[0].delete && beta.keys[0].origin.to_string().ends_with(" line 14"), "{:?}", beta.keys);
    let shown = config.effective.iter().find(|e| e.key == "accounts").unwrap();
    assert_eq!(shown.value, "acme,beta");
}

#[test]
fn a_declared_account_that_cannot_be_read_is_one_line_with_its_place() {
    let cases = [
        ("accounts = 1\n", " line 1): expected tables, [[accounts]]"),
        ("[[accounts]]\nname = 'acme'\n", " line 2): gen is missing; hythe key declare prints it"),
        (
            "[[accounts]]\nname = 'acme'\ngeneration = 'x'\n",
            " line 3): there is no generation here; there are name, gen, ",
        ),
        ("[[accounts]]\nname = 'a'\ngen = 'x'\npublic = 'a/**'\n", " line 4): public: expected an array of strings"),
        ("[[accounts]]\nname = 'a'\ngen = 'x'\nkeys = [{id = 'i'}]\n", " line 4): hash is missing"),
        ("[[accounts]]\nname = ['a']\ngen = 'x'\n", " line 2): name: expected one value"),
    ];
    for (i, (text, says)) in cases.iter().enumerate() {
        let file = File::new(&format!("bad-accounts-{i}"), text);
        let line = refused(&Sources::isolated().file(&file.0));
        assert!(line.starts_with("accounts (") && line.contains(says), "{line}");
    }
}

#[test]
fn a_certificate_of_its_own_is_kept_beside_the_data_or_where_it_is_said() {
    let of = |sources: Sources| load(&sources.set("tls_self_signed", "registry.example")).map(|config| config.server);
    let server = of(Sources::isolated().set("data", "/srv")).unwrap();
    let own = server.self_signed.unwrap();
    assert_eq!((own.folder, own.hosts.len()), (PathBuf::from("/srv/tls"), 1));
    assert_eq!(server.tls.unwrap().pair.unwrap().certificate, PathBuf::from("/srv/tls/server.pem"));
    let bucket = || Sources::isolated().set("store", "s3://bucket");
    assert!(of(bucket()).unwrap_err().to_string().contains("name with tls_dir the folder"));
    assert_eq!(of(bucket().set("tls_dir", "/tls")).unwrap().self_signed.unwrap().folder, PathBuf::from("/tls"));
    let both = of(Sources::isolated().set("tls_cert", "a").set("tls_key", "b")).unwrap_err().to_string();
    assert!(both.contains("are both set; keep one"), "{both}");
}

#[test]
fn what_differs_is_told_by_its_setting_wherever_it_came_from() {
    let one = load(&Sources::isolated().set("log.filter", "info").set("seal_key", "a")).unwrap();
    let file = File::new("differs", "seal_key = 'a'\n[log]\nfilter = 'info'\n");
    assert!(one.same(&load(&Sources::isolated().file(&file.0)).unwrap()));
    let other = load(&Sources::isolated().set("log.filter", "debug").set("seal_key", "b")).unwrap();
    let keys: Vec<_> = one.differs(&other).iter().map(|setting| setting.key).collect();
    assert_eq!(keys, ["seal_key", "log.filter"]);
}
