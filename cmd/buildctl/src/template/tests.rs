use super::*;

fn data() -> Data {
    let text = |text: &str| Data::Text(text.to_owned());
    let item = |id: &str, size, labels: &[(&str, &str)]| {
        Data::Struct(vec![
            ("ID", "id", text(id)),
            ("Size", "size", Data::Int(size)),
            ("InUse", "inUse", Data::Bool(size > 1)),
            ("UsedAt", "usedAt", Data::Null),
            ("Parents", "parents", Data::texts(&[])),
            (
                "Labels",
                "labels",
                Data::Map(labels.iter().map(|(key, value)| ((*key).into(), text(value))).collect()),
            ),
        ])
    };
    Data::List(vec![item("a<", 1, &[("k", "v"), ("l", "w")]), item("b", 22, &[])])
}

fn check(cases: &[(&str, &str)]) {
    for (template, expect) in cases {
        let text = match Template::parse(template).and_then(|template| template.render(&data())) {
            Ok(text) => text,
            Err(error) => format!("error: {error:#}"),
        };
        assert_eq!(&text, expect, "{template}");
    }
}

#[test]
fn values() {
    let json = concat!(
        r#"[{"id":"a<","size":1,"inUse":false,"usedAt":null,"parents":null,"labels":{"k":"v","l":"w"}},"#,
        r#"{"id":"b","size":22,"inUse":true,"usedAt":null,"parents":null,"labels":{}}]"#
    );
    check(&[
        ("json", json),
        ("{{json .}}", json),
        ("{{ . | json }}!", &format!("{json}!")),
        ("{{.}}", "[{a< 1 false <nil> [] map[k:v l:w]} {b 22 true <nil> [] map[]}]"),
        ("{{len .}}{{/* two */}} {{- /* glued */ -}} x", "2x"),
        ("{{(index . 0).Labels.k}} {{(index . 0).Labels.no}}", "v <no value>"),
        ("{{index . 0 | json | len}}", "90"),
        (r#"{{index (index . 0).Labels "l"}}{{index (index . 0).Labels "no"}}"#, "w"),
        ("{{slice `abcdef` 1 3}} {{len (slice . 1)}}", "bc 1"),
        ("{{true}} {{-5}} {{0x1f}} {{'a'}} {{\"}}\\t\\\"\\u00e9\"}}", "true -5 31 97 }}\t\"é"),
    ]);
}

#[test]
fn blocks() {
    check(&[
        ("{{range .}}{{.ID}}={{.Size}};{{end}}", "a<=1;b=22;"),
        ("{{range .}}\n  {{- .ID -}}\n{{end}}", "a<b"),
        ("{{range .}}{{if .InUse}}{{.ID}}{{else if .Labels}}l{{else}}x{{end}}{{end}}", "lb"),
        ("{{range .}}{{if .Parents}}x{{end}}{{range .Parents}}y{{else}}none {{end}}{{end}}", "none none "),
        (
            "{{range $i, $e := .}}{{$i}}:{{$e.ID}} {{range $k, $v := .Labels}}{{$k}}={{$v}},{{end}}{{end}}",
            "0:a< k=v,l=w,1:b ",
        ),
        ("{{range .}}{{.ID}}{{break}}{{end}}", "a<"),
        ("{{range .}}{{if .InUse}}{{continue}}{{end}}{{.ID}}{{end}}", "a<"),
        ("{{with index . 1}}{{.ID}}{{len $}}{{end}}", "b2"),
        ("{{with 0}}x{{else with 1}}{{.}}{{else}}y{{end}}", "1"),
        ("{{$n := 0}}{{range .}}{{$n = .Size}}{{end}}{{$n}}", "22"),
        ("{{$n := 1}}{{if true}}{{$n := 2}}{{end}}{{$n}}", "1"),
        ("{{if $x := len .}}{{$x}}{{end}}", "2"),
    ]);
}

#[test]
fn functions() {
    check(&[
        ("{{range .}}{{if eq .ID `a<` `z`}}yes{{else}}no{{end}}{{end}}", "yesno"),
        (
            "{{eq 1 2 1}} {{ne 1 2}} {{lt 1 2}} {{le 2 2}} {{gt `b` `a`}} {{ge 1 2}}",
            "true true true true true false",
        ),
        (
            "{{and 1 0 (index . 9)}} {{or 0 `x` (index . 9)}} {{not .}} {{1 | and 2}} {{0 | or 0 3}}",
            "0 x false 1 3",
        ),
        (
            "{{range .}}{{printf \"%-4s|%6d|%06d|%x|%t\\n\" .ID .Size .Size .Size .InUse}}{{end}}",
            "a<  |     1|000001|1|false\nb   |    22|000022|16|true\n",
        ),
        ("{{printf `%s %q %v %+d %.1s %5t %c %U %% %*d` `a` `b\"` . 3 `xyz` true 65 65 4 7 | len}}", "98"),
        (
            "{{printf `%d %s` `x` 1}} {{printf `%s`}} {{printf `x` 1}} {{printf `%!`}}",
            "%!d(string=x) %!s(int64=1) %!s(MISSING) x%!(EXTRA int64=1) %!!(MISSING)",
        ),
        ("{{printf `%q` (index . 0).Labels}}", r#"map["k":"v" "l":"w"]"#),
        ("{{print 1 2 `a` `b` 3}} {{println 1 `a`}}", "1 2ab3 1 a\n"),
        ("{{.  | len | printf `%03d`}}", "002"),
    ]);
}

#[test]
fn mistakes() {
    check(&[
        ("{{.Nope}}", "error: can't evaluate field Nope in type []interface {}"),
        ("{{(index . 0).Nope}}", "error: can't evaluate field Nope"),
        ("{{(index . 0).UsedAt.Year}}", "error: nil pointer evaluating field Year"),
        ("{{range .}}", "error: Template ends inside of a block: `{{end}}` is missing"),
        ("{{end}}", "error: Template has an `{{end}}` or `{{else}}` outside of a block"),
        ("{{if 1}}{{else}}{{else}}{{end}}", "error: Template has two `{{else}}` in one block"),
        ("{{", "error: Template ends inside of an action"),
        ("{{`x", "error: Template has a text without an end"),
        ("{{(1}}", "error: Template has a `(` without its `)`"),
        ("{{}}", "error: Template has an action without a value"),
        ("{{1 | | len}}", "error: Template has an unexpected `|` in an action"),
        ("{{frob 1}}", "error: Template function `frob` is not defined"),
        ("{{len}}", "error: Template function `len` failed: wrong number of args"),
        ("{{.ID 1}}", "error: Template gives an argument to what is no function"),
        ("{{$x}}", "error: Template has no variable `$x`"),
        ("{{index . 5}}", "error: Template function `index` failed: index out of range: 5"),
        (
            "{{eq 1 `1`}}",
            "error: Template function `eq` failed: incompatible types for comparison: int64 and string",
        ),
        ("{{define `x`}}", "error: Template action `define` is not supported here"),
        ("{{break}}", "error: Template action `break` is not supported here"),
        ("{{1.5}}", "error: Template has a bad number: 1.5"),
        ("{{?}}", "error: Template has an unexpected '?' in an action"),
    ]);
}
