//! Expressions, functions, variables and locals: the helpers of these tests.

mod bounds;
mod expressions;
mod functions;
mod outside;
mod references;
mod scope;

use std::path::PathBuf;

use super::error::EvalError;
use super::scope::Bindings;
use super::*;

fn getenv(name: &str) -> Option<String> {
    (name == "SET").then(|| "SECRET".into())
}

/// Evaluates `locals { result = … }` in a file of its own. Returns the result as JSON, or the error
/// with its position.
fn run(text: &str, dir: &str, vars: &[&str]) -> Result<String, String> {
    let vars: Vec<String> = vars.iter().map(|var| (*var).into()).collect();
    let inputs = Inputs {
        env: Some("prod"),
        vars: parse_vars(&vars).unwrap(),
        getenv: &getenv,
    };
    let file = ConfigFile::parse("f".into(), PathBuf::from(dir), text.into())
        .map_err(|error| error.to_string())?;
    let at = |failure: EvalError| {
        let place = file.place(failure.offset);
        format!("{place}: {}", failure.message)
    };
    let envs = select(&file, "prod").unwrap_or_default();
    let scope = Scope::new(&file, &inputs, envs).map_err(at)?;
    let block = file.body.get_blocks("result").next();
    let attribute = block.and_then(|block| block.body.get_attribute("is"));
    let attribute = attribute.ok_or("no result")?;
    let value = scope
        .evaluate(&attribute.value, &Bindings::file())
        .map_err(at)?;
    Ok(super::funcs::json_of(&value))
}

fn json(expression: &str) -> String {
    match run(
        &format!("result {{\n is = {expression}\n}}\n"),
        "/nowhere",
        &[],
    ) {
        Ok(json) => json,
        Err(error) => panic!("{expression}: {error}"),
    }
}

fn refusal(expression: &str) -> String {
    let text = format!("result {{\n is = {expression}\n}}\n");
    let message = run(&text, "/nowhere", &[]).unwrap_err();
    assert!(!message.contains("SECRET"), "{message}");
    message
}

fn check(table: &[(&str, &str)]) {
    for (expression, expected) in table {
        assert_eq!(json(expression), *expected, "{expression}");
    }
}

fn refuse(table: &[(&str, &str)]) {
    for (expression, reason) in table {
        let message = refusal(expression);
        assert!(message.contains(reason), "{expression}: {message}");
    }
}
