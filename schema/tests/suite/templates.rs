//! Templates and expressions, sentence by sentence of SPEC section 4.

use ordinaut_schema::{
    condition::Condition,
    run::ErrorKind,
    template::{Expression, Scope, evaluate, has_template, render, search},
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn scope() -> Scope {
    let steps = json!({
        "weather": {"body": {"temperature": 26.5, "city": "Chișinău", "wind": null, "tags": ["dry", "hot"]}, "status": 200},
        "skipped": null,
        "orders": {"items": [{"id": 1, "total": 50}, {"id": 2, "total": 150}, {"id": 3, "total": 250}]},
        "my-step": {"x": 1},
    });
    Scope {
        params: json!({"city": "Chisinau", "limit": 100, "flags": [], "name": "a}b"}),
        steps: steps.as_object().cloned().unwrap(),
        now: "2026-11-23T08:30:00+02:00".to_owned(),
        run: json!({"id": "r", "attempt": 1}),
        ..Scope::default()
    }
}

fn value(expression: &str) -> Value {
    evaluate(expression, &scope()).unwrap_or_else(|error| panic!("{expression}: {error}"))
}

fn failure(expression: &str) -> String {
    let error = evaluate(expression, &scope()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Template, "{expression}");
    error.message
}

fn unreadable(expression: &str) -> String {
    Expression::bare(expression).map(drop).unwrap_err().to_string()
}

#[test]
fn a_string_that_is_one_template_keeps_the_values_json_type() {
    let with =
        json!({"t": "${steps.weather.body.temperature}", "tags": "${steps.weather.body.tags}", "n": "${params.x}"});
    assert_eq!(render(&with, &scope()).unwrap(), json!({"t": 26.5, "tags": ["dry", "hot"], "n": null}));
}

#[test]
fn values_within_text_are_interpolated() {
    let text = json!("Hot in ${params.city}: ${steps.weather.body.temperature}°C ${steps.weather.body.tags}");
    assert_eq!(render(&text, &scope()).unwrap(), json!("Hot in Chisinau: 26.5°C [\"dry\",\"hot\"]"));
}

#[test]
fn null_inside_text_is_a_template_error_naming_the_path_and_default_allows_it() {
    let error = render(&json!({"a": [{"text": "wind: ${steps.weather.body.wind}"}]}), &scope()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Template);
    assert!(error.message.contains("with.a[0].text"), "{error}");
    assert!(error.message.contains("steps.weather.body.wind"), "{error}");
    assert!(error.message.contains("default("), "{error}");
    let mended = json!("wind: ${default(steps.weather.body.wind, 'none')}");
    assert_eq!(render(&mended, &scope()).unwrap(), json!("wind: none"));
}

#[test]
fn a_template_ends_at_the_brace_that_balances_outside_quotes() {
    assert_eq!(render(&json!("<${ {a: '}', b: params.name} }>"), &scope()).unwrap(), json!(r#"<{"a":"}","b":"a}b"}>"#));
}

#[test]
fn a_doubled_dollar_is_a_literal_template() {
    assert_eq!(render(&json!("$${x} $5 ${params.limit}"), &scope()).unwrap(), json!("${x} $5 100"));
}

#[test]
fn what_a_step_returned_is_never_read_as_a_template_again() {
    let mut scope = scope();
    scope.params = json!({"evil": "${params.secret}", "secret": "s"});
    assert_eq!(render(&json!("${params.evil}!"), &scope).unwrap(), json!("${params.secret}!"));
}

#[test]
fn numbers_and_words_are_literals_wherever_an_operand_may_stand() {
    assert_eq!(value("steps.weather.body.temperature > 25"), json!(true));
    assert_eq!(value("steps.weather.body.temperature > `25`"), json!(true));
    assert_eq!(value("-1.5"), json!(-1.5));
    assert_eq!(value("[true, null, 2e3, 0]"), json!([true, null, 2000.0, 0]));
    assert_eq!(value("contains([1, 2], 2)"), json!(true));
    assert_eq!(value("steps.weather.status == 200.0"), json!(true));
    assert_eq!(value("steps.weather.body.wind == null"), json!(true));
    assert_eq!(value("steps.orders.items[0].id"), json!(1));
    assert_eq!(value("steps.orders.items[-1].id"), json!(3));
    assert_eq!(search("x.null.true", &json!({"x": {"null": {"true": 7}}})).unwrap(), json!(7));
}

#[test]
fn a_double_quoted_operand_of_a_comparison_is_refused_with_a_hint_at_single_quotes() {
    for expression in ["params.city == \"ok\"", "\"ok\" != params.city", "steps.orders.items[?name == \"ok\"]"] {
        let error = Expression::parse(expression).map(drop).unwrap_err();
        assert!(error.why.contains("'ok'"), "{error}");
        assert_eq!(error.suggestion.as_deref(), Some("'ok'"));
    }
    assert_eq!(value("params.\"city\" == 'Chisinau'"), json!(true));
}

#[test]
fn ordering_a_number_with_anything_else_is_a_template_error_never_silently_false() {
    assert!(failure("steps.weather.body.city > 3").contains("not the text 'Chișinău' and the number 3"));
    assert!(failure("steps.skipped.count < 3").contains("null"));
    assert!(failure("'a' < 'b'").contains("two instants"));
    assert!(failure("steps.orders.items[?price > 3]").contains("null"));
}

#[test]
fn instants_are_ordered_as_instants() {
    assert_eq!(value("now > now-24h"), json!(true));
    assert_eq!(value("'2026-11-23T06:30:00Z' >= now"), json!(true));
}

#[test]
fn now_moves_by_a_written_amount() {
    assert_eq!(value("${now+24h}"), json!("2026-11-24T08:30:00+02:00"));
    assert_eq!(value("now - 7d"), json!("2026-11-16T08:30:00+02:00"));
    assert_eq!(render(&json!("from ${now-1h30m}"), &scope()).unwrap(), json!("from 2026-11-23T07:00:00+02:00"));
    assert!(unreadable("now+24x").contains("24x"));
}

#[test]
fn our_functions_do_what_people_need() {
    for (expression, expected) in [
        ("default(params.nope, 'x')", json!("x")),
        ("default(params.flags, 'x')", json!([])),
        ("format_time(now, '%A %-d %B %H:%M')", json!("Monday 23 November 08:30")),
        ("format_time(now, '%H:%M', 'UTC')", json!("06:30")),
        ("format_time(0, '%F')", json!("1970-01-01")),
        ("add_time('2026-11-23T08:30:00Z', '+1d')", json!("2026-11-24T08:30:00+00:00")),
        ("parse_json('{\"a\": [1]}').a[0]", json!(1)),
        ("to_json({a: 1})", json!("{\"a\":1}")),
        ("lower('ÀB')", json!("àb")),
        ("upper('àb')", json!("ÀB")),
        ("trim('  a ')", json!("a")),
        ("replace('a-b-c', '-', '+')", json!("a+b+c")),
        ("split('a,b', ',')", json!(["a", "b"])),
        ("url_encode('a b/ș')", json!("a%20b%2F%C8%99")),
        ("base64('hello')", json!("aGVsbG8=")),
        ("base64('any')", json!("YW55")),
        ("base64('')", json!("")),
        ("sha256('abc')", json!("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")),
    ] {
        assert_eq!(value(expression), expected, "{expression}");
    }
}

#[test]
fn a_wrong_argument_is_named_with_what_would_be_right() {
    assert!(failure("length(params.limit)").contains("argument 1 of `length` must be a text, a list or an object"));
    assert!(failure("parse_json('{')").contains("no JSON"));
    assert!(unreadable("lenght(params)").contains("no function `lenght`"));
    assert_eq!(Expression::parse("lenght(a)").map(drop).unwrap_err().suggestion.as_deref(), Some("length"));
    assert!(unreadable("length()").contains("takes 1 argument, not 0"));
}

#[test]
fn an_error_says_where_and_what_to_write() {
    for (expression, says) in [
        ("steps.a..b", "(at character 9)"),
        ("a and b", "`&&`"),
        ("a or b", "`||`"),
        ("not a", "`!`"),
        ("a = 'b'", "`==`"),
        ("a.0", "in brackets"),
        ("a + 1", "no arithmetic"),
        ("'open", "never closed"),
        ("`{x}`", "not JSON"),
        ("", "nothing is there"),
        ("${a} > 3", "put all of it in, or none"),
        ("(a", "`)` should close"),
    ] {
        assert!(unreadable(expression).contains(says), "{expression}: {}", unreadable(expression));
    }
}

#[test]
fn a_dash_within_a_name_is_part_of_it() {
    assert_eq!(value("steps.my-step.x"), json!(1));
    assert_eq!(search("headers.content-type", &json!({"headers": {"content-type": "x"}})).unwrap(), json!("x"));
}

#[test]
fn a_dollar_is_the_whole_scope_inside_a_filter() {
    assert_eq!(value("steps.orders.items[?total > $.params.limit].id"), json!([2, 3]));
    assert_eq!(value("map(&add_time($.now, '+1h'), `[1]`)"), json!(["2026-11-23T09:30:00+02:00"]));
}

#[test]
fn not_negates_the_whole_path_after_it() {
    assert_eq!(value("!steps.weather.body"), json!(false));
    assert_eq!(value("!params.flags && !steps.skipped.x"), json!(true));
}

#[test]
fn an_if_is_falsy_for_false_null_and_what_is_empty() {
    for (condition, holds) in [
        ("steps.weather.body.temperature > 25", true),
        ("${steps.weather.status == 200}", true),
        ("false", false),
        ("steps.skipped", false),
        ("''", false),
        ("params.flags", false),
        ("`{}`", false),
        ("0", true),
    ] {
        assert_eq!(Condition::parse(condition, "$.if").unwrap().holds(&scope()), Ok(holds), "{condition}");
    }
    let fault = Condition::parse("steps.x ==", "$.pipeline[0].if").unwrap_err();
    assert_eq!(fault.path, "$.pipeline[0].if");
}

#[test]
fn hostile_expressions_are_refused_or_bounded() {
    let deep = |open: &str, close: &str, n: usize| format!("{}a{}", open.repeat(n), close.repeat(n));
    for hostile in [
        deep("(", ")", 5_000),
        deep("[", "]", 900),
        deep("{a: ", "}", 900),
        deep("!", "", 1_900),
        deep("&", "", 1_900),
        format!("a{}", ".a".repeat(900)),
        format!("a{}", "[*]".repeat(600)),
        format!("a{}", " || a".repeat(900)),
        format!("a{}", "[]".repeat(1_900)),
        "a.".repeat(100_000),
    ] {
        assert!(Expression::parse(&hostile).is_err(), "{}", &hostile[..20]);
    }
    let doubling = format!("[params.city]{}", " | [@, @]".repeat(45));
    assert!(failure(&doubling).contains("MiB"));
    let big = json!({"a": "x".repeat(200_000), "l": vec!["y"; 50_000]});
    for bomb in ["replace(a, 'x', a)", "join(a, l)"] {
        assert!(search(bomb, &big).unwrap_err().message.contains("MiB"), "{bomb}");
    }
    let nested = format!("params{}", " | [@]".repeat(150));
    assert!(failure(&nested).contains("deep"));
}

/// What both read alike must have one value; ours may refuse what JMESPath answers with a silent null.
#[test]
fn plain_jmespath_means_what_it_means_elsewhere() {
    // Keys in alphabetical order: JMESPath's crate sorts them, ours keeps them.
    let document = json!({
        "a": {"b": [1, 2, {"c": "x"}], "d": {"e": null, "f": false}},
        "n": -3.7,
        "nested": [[1, [2]], [3], 4],
        "people": [
            {"age": 30, "name": "b", "tags": ["x", "y"]},
            {"age": 50, "name": "a", "tags": []},
            {"age": 40, "boss": {"name": "a"}, "name": "c", "tags": ["z"]},
        ],
        "text": "héllo",
    });
    let expressions = "a.b|a.b[0]|a.b[-1].c|a.b[1:]|a.b[::-1]|a.b[::2]|a.b[-2:-1]|a.b[5]|a.d.*|a.*|*|@.a|people[*].name|\
        people[].tags[]|people[*].tags|people[].tags|people[?age > `35`].name|people[?name == 'a'] | [0]|\
        people[?boss].boss.name|people[?!boss].name|people[?age > `35` && name != 'c'].name|people[*].[name, age]|\
        people[*].{n: name, t: tags[0]}|{x: a.b[0], y: people[0].name}|[a.b[0], text]|nested[]|nested[][]|nested[*][0]|\
        nested[0][1][0]|a.d.e || 'none'|a.d.f && 'x'|!text|text == 'héllo'|a.b[0] != `1`|length(people)|length(text)|\
        abs(n)|ceil(n)|floor(n)|avg(people[*].age)|sum(people[*].age)|max(people[*].age)|min(people[*].name)|\
        sort(people[*].name)|sort_by(people, &age)[*].name|max_by(people, &age).name|min_by(people, &age).name|\
        reverse(people[*].name)|reverse(text)|contains(text, 'l')|contains(a.b, `2`)|starts_with(text, 'h')|\
        ends_with(text, 'x')|join('-', people[*].name)|keys(a)|values(a.d)|map(&name, people)|map(&boss.name, people)|\
        merge(a.d, `{\"e\": 1}`)|not_null(a.d.e, a.d.f)|to_array(n)|to_array(nested)|to_number('12')|to_number('x')|\
        to_string(n)|to_string(a.d)|type(people)|type(n)|missing.x|missing[0]|missing[*].x|people.name|text.x|people[*].boss.name|\
        a.\"b\"[0]|`{\"k\": [1]}`.k[0]|people | [0].name|(a.b)[0]|people[*].tags[0]|people[0:2].name|people[].boss|\
        people[*].tags | [0]|a.b[?@ == `1`]|[0]|a[0]|people[*].tags[].x|*.b[0]|people[-1:].tags[0] | [0]";
    let theirs = jmespath::Variable::from_json(&document.to_string()).unwrap();
    let mut compared = 0;
    for expression in split_top(expressions) {
        let expected = jmespath::compile(expression).unwrap().search(&theirs).unwrap();
        let expected: Value = serde_json::to_value(&*expected).unwrap();
        let ours = search(expression, &document).unwrap_or_else(|error| panic!("{expression}: {error}"));
        assert!(alike(&ours, &expected), "{expression}: {ours} is not {expected}");
        compared += 1;
    }
    assert_eq!(compared, 88);
}

/// The list above is separated by `|` without spaces around it; a pipe has them.
fn split_top(list: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, _) in list.match_indices('|') {
        let around = [list[..at].chars().next_back(), list[at + 1..].chars().next()];
        if !around.iter().any(|c| matches!(c, Some(' ' | '|'))) {
            parts.push(list[start..at].trim());
            start = at + 1;
        }
    }
    parts.push(list[start..].trim());
    parts
}

/// Equal, `1` and `1.0` being one number.
fn alike(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64() == right.as_f64(),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| alike(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(key, left)| right.get(key).is_some_and(|right| alike(left, right)))
        }
        _ => left == right,
    }
}

proptest! {
    #[test]
    fn any_text_without_a_template_renders_to_itself(text in ".*") {
        prop_assume!(!has_template(&text));
        prop_assert_eq!(render(&json!(text), &scope()).unwrap(), json!(text));
    }

    #[test]
    fn rendering_never_panics(text in any::<String>()) {
        drop(render(&json!(format!("${{{text}}}")), &scope()));
        drop(render(&json!(text), &scope()));
    }

    #[test]
    fn evaluating_never_panics(
        words in prop::collection::vec(prop::sample::select(vec![
            "steps", "params", ".", "orders", "items", "[", "]", "[]", "[?", "*", "0", "-1", "1.5", "'x'", "`1`", "\"q\"",
            "&&", "||", "|", "!", "==", "<", "(", ")", "{", "}", ":", ",", "@", "$", "&", "length", "sort_by", "now", "+24h", "a-b",
            "join", "map", "null", " ",
        ]), 0..14)
    ) {
        drop(evaluate(&words.concat(), &scope()));
    }

    #[test]
    fn a_text_in_quotes_is_that_text(text in "[^'\\\\]*") {
        prop_assert_eq!(evaluate(&format!("'{text}'"), &scope()).unwrap(), json!(text));
    }
}
