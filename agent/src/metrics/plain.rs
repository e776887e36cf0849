//! OpenMetrics text in the older form of Prometheus (0.0.4), which `promtool` and people read.

/// The same metrics. What differs: a counter has the name of its samples, and units and the end are not marked.
pub(super) fn plain(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    let mut help = None;
    for line in openmetrics.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(_), said) => help = said,
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                let (suffix, kind) = match kind {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    other => ("", other),
                };
                if let Some(said) = help.take() {
                    text.push_str(&format!("# HELP {name}{suffix} {said}\n"));
                }
                text.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
            }
            (Some("#"), ..) => {}
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn counters_have_the_name_of_their_samples() {
        let openmetrics = "# HELP a_b Its help.\n# TYPE a_b counter\na_b_total{c=\"# TYPE\"} 1\n\
                           # HELP d_seconds More.\n# TYPE d_seconds gauge\n# UNIT d_seconds seconds\nd_seconds 2\n\
                           # HELP e Which.\n# TYPE e info\ne_info{version=\"1\"} 1\n# EOF\n";
        let text = "# HELP a_b_total Its help.\n# TYPE a_b_total counter\na_b_total{c=\"# TYPE\"} 1\n\
                    # HELP d_seconds More.\n# TYPE d_seconds gauge\nd_seconds 2\n\
                    # HELP e_info Which.\n# TYPE e_info gauge\ne_info{version=\"1\"} 1\n";
        assert_eq!(plain(openmetrics), text);
    }
}
