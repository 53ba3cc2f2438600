//! What a benchmark found, beside the raw limit that it was compared with in the same run.

use serde_json::json;

/// Prints a figure as one JSON object on a line of its own: what was measured, ours, the limit, ours over the limit, and the
/// unit of both.
pub fn figure(name: &str, ours: f64, limit: f64, unit: &str) {
    let ratio = ours / limit;
    println!(
        "{}",
        json!({
            "figure": name, "ours": rounded(ours), "limit": rounded(limit), "ratio": rounded(ratio), "unit": unit,
        })
    );
}

/// To four significant digits: more would only be noise.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}
