//! What a benchmark found, beside the raw limit that it was compared with in the same run.

use serde_json::{Value, json};

/// Prints a figure as one JSON object on a line of its own: what was measured, ours, the limit, ours over the limit, and the
/// unit of both.
pub fn figure(name: &str, ours: f64, limit: f64, unit: &str) {
    println!("{}", line(name, ours, limit, unit));
}

/// The same of a figure whose ratio should be `goal` at most, and whether it is.
pub fn figure_for(goal: f64, name: &str, ours: f64, limit: f64, unit: &str) {
    let mut line = line(name, ours, limit, unit);
    line["goal"] = json!(goal);
    line["met"] = json!(ours / limit <= goal);
    println!("{line}");
}

fn line(name: &str, ours: f64, limit: f64, unit: &str) -> Value {
    json!({
        "figure": name, "ours": rounded(ours), "limit": rounded(limit), "ratio": rounded(ours / limit), "unit": unit,
    })
}

/// To four significant digits: more would only be noise.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}
