fn greeting(language: &str) -> String {
    format!("Hello from {language}")
}

fn main() {
    println!("{}", greeting("Rust"));
}

#[test]
fn greets() {
    assert_eq!(greeting("x"), "Hello from x");
}
