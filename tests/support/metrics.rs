//! Reading what a server says of itself on `/metrics`.

/// The sum of all samples of a metric that have these labels, whatever others they have.
pub fn sum(text: &str, metric: &str, labels: &[(&str, &str)]) -> f64 {
    let has = |line: &str, (name, value): &(&str, &str)| {
        let label = format!("{name}=\"{value}\"");
        // A label stands behind `{` or `,`: `code` must not be found in `exit_code`.
        line.contains(&format!("{{{label}")) || line.contains(&format!(",{label}"))
    };
    text.lines()
        .filter(|line| line.strip_prefix(metric).is_some_and(|rest| rest.starts_with(['{', ' '])))
        .filter(|line| labels.iter().all(|label| has(line, label)))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}
