//! Secrets: encrypted, bound, and closed to the MCP role.

use std::collections::BTreeSet;

use ordinaut_store::{
    Caller,
    secrets::{Bindings, For, KeyRing, KeySource, SecretError, SecretVault},
    testing::Fixture,
};
use sqlx::PgPool;
use url::Url;

const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const OTHER_KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const VALUE: &str = "s3cr3t-value";

fn keys(text: &str) -> KeyRing {
    KeyRing::parse(text).unwrap()
}

#[expect(clippy::unnecessary_wraps, reason = "as the verb takes it")]
fn hosts(hosts: &[&str]) -> Option<Bindings> {
    let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
    Some(Bindings::new(&hosts, &[], &[]).unwrap())
}

fn vault(fixture: &Fixture, keys: &str) -> SecretVault {
    SecretVault::new(fixture.executor.clone(), KeySource::choose(Some(keys), None, "/nowhere".as_ref()))
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

async fn open(vault: &SecretVault, name: &str) -> Result<String, SecretError> {
    let url = Url::parse("https://api.example.com/x").unwrap();
    vault.open(&names(&[name]), For::Request(&url)).await.map(|opened| opened[0].value().to_owned())
}

async fn execute(owner: &PgPool, sql: &'static str) {
    sqlx::query(sql).execute(owner).await.unwrap();
}

#[tokio::test]
async fn a_secret_opens_for_what_it_is_bound_to_and_nothing_else() {
    let (fixture, _database) = Fixture::fresh().await;
    let bindings = Bindings::new(
        &["API.example.com".to_owned(), "*.example.org:8443".to_owned()],
        &["github".to_owned()],
        &["team".to_owned()],
    );
    let store = &fixture.executor;
    assert!(store.set_secret(&keys(KEY), "API", VALUE, Some(bindings.unwrap())).await.unwrap().0);
    let vault = vault(&fixture, KEY);

    for url in ["https://api.example.com/a?b", "https://x.example.org:8443"] {
        let url = Url::parse(url).unwrap();
        assert_eq!(vault.open(&names(&["API"]), For::Request(&url)).await.unwrap()[0].value(), VALUE);
    }
    for url in ["https://evil.example/", "https://api.example.com:444/", "https://example.org:8443/"] {
        let url = Url::parse(url).unwrap();
        let refused = vault.open(&names(&["API"]), For::Request(&url)).await.unwrap_err().to_string();
        for part in ["`API`", "*.example.org:8443, api.example.com", url.host_str().unwrap()] {
            assert!(refused.contains(part), "{refused}");
        }
    }
    let resolved = vault.resolve_text("Bearer ${secrets.API}", For::Server("github")).await.unwrap();
    assert_eq!(resolved.text(), "Bearer s3cr3t-value");
    assert!(!format!("{resolved:?} {:?}", resolved.secrets()).contains(VALUE));
    assert!(vault.resolve_text("${secrets.API}", For::Channel("team")).await.is_ok());
    assert!(vault.resolve_text("${secrets.API}", For::Channel("github")).await.is_err());
    assert_eq!(vault.resolve_text("${HOME}", For::Channel("x")).await.unwrap().text(), "${HOME}");

    let unknown = open(&vault, "APY").await.unwrap_err().to_string();
    assert!(unknown.contains("`APY` does not exist; there is API"), "{unknown}");
}

#[tokio::test]
async fn setting_a_value_anew_keeps_the_bindings_unless_others_are_given() {
    let (fixture, _database) = Fixture::fresh().await;
    let (store, ring) = (&fixture.executor, keys(KEY));
    assert!(matches!(store.set_secret(&ring, "API", VALUE, None).await, Err(SecretError::Unbound)));
    store.set_secret(&ring, "API", VALUE, hosts(&["api.example.com"])).await.unwrap();
    let (is_new, bindings) = store.set_secret(&ring, "API", "another-value", None).await.unwrap();
    assert_eq!((is_new, bindings.hosts()), (false, &["api.example.com".to_owned()][..]));
    assert_eq!(open(&vault(&fixture, KEY), "API").await.unwrap(), "another-value");

    let listed = store.list_secrets().await.unwrap();
    assert_eq!((listed.len(), listed[0].name.as_str()), (1, "API"));
    assert!(store.delete_secret("API").await.unwrap() && !store.delete_secret("API").await.unwrap());

    let verbs: Vec<String> =
        sqlx::query_scalar("select verb from audit_log order by id").fetch_all(&fixture.owner).await.unwrap();
    assert_eq!(verbs, ["set_secret", "set_secret", "delete_secret"]);
    let told: String = sqlx::query_scalar("select string_agg(detail::text, ' ') from audit_log")
        .fetch_one(&fixture.owner)
        .await
        .unwrap();
    assert!(told.contains("api.example.com") && !told.contains("value"), "{told}");
}

#[tokio::test]
async fn a_value_or_a_name_that_cannot_be_is_refused() {
    let (fixture, _database) = Fixture::fresh().await;
    let ring = keys(KEY);
    for (name, value) in [("API", "1234567"), ("API", "éééé"), ("API", "with\0nul-inside"), ("a-b", VALUE), ("", VALUE)]
    {
        let set = fixture.executor.set_secret(&ring, name, value, hosts(&["a.example"])).await;
        assert!(set.is_err(), "{name} {value:?}");
    }
    let long = "x".repeat(20_000);
    assert!(fixture.executor.set_secret(&ring, "API", &long, hosts(&["a.example"])).await.is_err());
    assert!(
        Bindings::new(&["https://a.example".to_owned()], &[], &[]).is_err() && Bindings::new(&[], &[], &[]).is_err()
    );
}

#[tokio::test]
async fn a_moved_ciphertext_or_changed_bindings_do_not_open() {
    let (fixture, _database) = Fixture::fresh().await;
    let (store, ring) = (&fixture.executor, keys(KEY));
    for (name, host) in [("MINE", "api.example.com"), ("THEIRS", "api.example.com"), ("BOUND", "bank.example")] {
        store.set_secret(&ring, name, &format!("value of {name}"), hosts(&[host])).await.unwrap();
    }
    let vault = vault(&fixture, KEY);
    assert!(open(&vault, "THEIRS").await.is_ok());

    execute(&fixture.owner, "update secret set hosts = '{api.example.com}' where name = 'BOUND'").await;
    assert!(matches!(open(&vault, "BOUND").await, Err(SecretError::Damaged { .. })));
    // Both are bound to the same host: it is the name that tells them apart.
    execute(
        &fixture.owner,
        "update secret set ciphertext = from_row.ciphertext, nonce = from_row.nonce
         from secret from_row where secret.name = 'THEIRS' and from_row.name = 'MINE'",
    )
    .await;
    assert!(matches!(open(&vault, "THEIRS").await, Err(SecretError::Damaged { .. })));
}

#[tokio::test]
async fn a_wrong_key_says_so_and_a_new_key_takes_over() {
    let (fixture, _database) = Fixture::fresh().await;
    fixture.executor.set_secret(&keys(KEY), "API", VALUE, hosts(&["api.example.com"])).await.unwrap();

    let wrong = open(&vault(&fixture, OTHER_KEY), "API").await.unwrap_err().to_string();
    for part in [keys(KEY).first().id(), keys(OTHER_KEY).first().id(), "ORDINAUT_SECRET_KEY"] {
        assert!(wrong.contains(part), "{wrong}");
    }
    assert!(matches!(open(&vault(&fixture, ""), "API").await, Err(SecretError::BadKey { .. })));
    assert!(vault(&fixture, OTHER_KEY).rotate().await.is_err(), "one key in the variable cannot be replaced from here");

    let both = vault(&fixture, &format!("{OTHER_KEY},{KEY}"));
    assert_eq!(both.rotate().await.unwrap(), (keys(OTHER_KEY).first().id().to_owned(), 1));
    assert_eq!(both.rotate().await.unwrap().1, 0);
    assert_eq!(open(&vault(&fixture, OTHER_KEY), "API").await.unwrap(), VALUE);
    assert!(matches!(open(&vault(&fixture, KEY), "API").await, Err(SecretError::OtherKey { .. })));
}

#[tokio::test]
async fn the_key_of_a_file_is_replaced_by_a_new_one() {
    let (fixture, _database) = Fixture::fresh().await;
    let directory = std::env::temp_dir().join(format!("ordinaut-secrets-{}", uuid::Uuid::now_v7()));
    let source = KeySource::choose(None, None, &directory);
    let vault = SecretVault::new(fixture.executor.clone(), source.clone());
    assert!(matches!(open(&vault, "API").await, Err(SecretError::Unknown { .. })));
    let former = source.read_or_make().unwrap();
    fixture.executor.set_secret(&former, "API", VALUE, hosts(&["api.example.com"])).await.unwrap();

    let (key, count) = vault.rotate().await.unwrap();
    assert!(key != former.first().id() && count == 1);
    assert_eq!(open(&vault, "API").await.unwrap(), VALUE);
    std::fs::remove_dir_all(directory).unwrap();
}

#[tokio::test]
async fn the_mcp_role_sees_names_and_hosts_and_never_a_ciphertext() {
    let (fixture, _database) = Fixture::fresh().await;
    fixture.executor.set_secret(&keys(KEY), "API", VALUE, hosts(&["api.example.com"])).await.unwrap();

    let catalogue = fixture.mcp.catalogue(&Caller::local("test")).await.unwrap();
    assert_eq!(catalogue.offered.secrets, [("API".to_owned(), vec!["api.example.com".to_owned()])].into());
    let vault = SecretVault::new(fixture.mcp.clone(), KeySource::choose(Some(KEY), None, "/nowhere".as_ref()));
    let refused = open(&vault, "API").await.unwrap_err();
    assert!(matches!(refused, SecretError::Store(_)), "{refused}");
    assert!(fixture.mcp.list_secrets().await.is_err() && fixture.mcp.delete_secret("API").await.is_err());
}
