//! The figures as a picture: bars that are as long as the packets are slow, or as many as are dropped.

use std::fmt::Write as _;

use serde_json::Value;

const WIDTH: f64 = 760.0;
const LEFT: f64 = 260.0;
const ROW: f64 = 22.0;
const OURS: &str = "#1f6feb";
const THEIRS: &str = "#9aa4b2";

struct Chart {
    title: &'static str,
    unit: &'static str,
    bars: &'static [(&'static str, &'static str, bool)],
}

const CHARTS: &[Chart] = &[
    Chart {
        title: "One packet with warm caches, the empty program included (less is better)",
        unit: "ns",
        bars: &[
            ("an empty program", "floor_ns", false),
            ("refused source: spinegate", "deny_ns", true),
            ("refused source: xdp-filter", "deny_xdp_filter_ns", false),
            ("allowed source: spinegate", "allow_ns", true),
            ("allowed source: xdp-filter", "allow_xdp_filter_ns", false),
            ("unguarded port: spinegate", "unguarded_ns", true),
            ("unguarded port: xdp-filter", "unguarded_xdp_filter_ns", false),
        ],
    },
    Chart {
        title: "Packets that one core drops in a second, sending included (more is better)",
        unit: "million",
        bars: &[
            ("an empty program", "same_core_drop_empty_mpps", false),
            ("spinegate", "same_core_drop_mpps", true),
            ("xdp-filter", "same_core_drop_xdp_filter_mpps", false),
            (
                "nftables, netdev ingress",
                "same_core_drop_nft_ingress_mpps",
                false,
            ),
            (
                "nftables, prerouting",
                "same_core_drop_nft_prerouting_mpps",
                false,
            ),
        ],
    },
    Chart {
        title: "One packet from ever other sources, without the empty program (less is better)",
        unit: "ns",
        bars: &[
            ("refused, 1 prefix", "varied_deny_1_net_ns", true),
            ("refused, 1 000", "varied_deny_1000_net_ns", true),
            ("refused, 100 000", "varied_deny_100000_net_ns", true),
            ("refused, 1 000 000", "varied_deny_1000000_net_ns", true),
            ("allowed, 1 prefix", "varied_allow_1_net_ns", true),
            ("allowed, 1 000", "varied_allow_1000_net_ns", true),
            ("allowed, 100 000", "varied_allow_100000_net_ns", true),
            ("allowed, 1 000 000", "varied_allow_1000000_net_ns", true),
        ],
    },
];

/// An SVG of the charts, one below the other.
pub(super) fn draw(figures: &Value) -> String {
    let mut body = String::new();
    let mut y = 10.0;
    for chart in CHARTS {
        y = chart.draw(figures, y, &mut body);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    )
}

impl Chart {
    fn draw(&self, figures: &Value, top: f64, body: &mut String) -> f64 {
        let value = |key: &str| figures.get(key).and_then(Value::as_f64).unwrap_or_default();
        let most = self
            .bars
            .iter()
            .map(|(_, key, _)| value(key))
            .fold(f64::MIN_POSITIVE, f64::max);
        let mut y = top + 18.0;
        // Writing to a string can't fail.
        let _ = writeln!(
            body,
            "<text x=\"10\" y=\"{y}\" font-weight=\"bold\">{}</text>",
            self.title
        );
        y += 10.0;
        for (name, key, ours) in self.bars {
            let (length, middle) = ((WIDTH - LEFT - 110.0) * value(key) / most, y + 15.0);
            let colour = if *ours { OURS } else { THEIRS };
            let _ = writeln!(
                body,
                "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\">{name}</text>\
                 <rect x=\"{LEFT}\" y=\"{}\" width=\"{length:.1}\" height=\"{}\" fill=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"{middle}\">{} {}</text>",
                LEFT - 8.0,
                y + 3.0,
                ROW - 6.0,
                LEFT + length + 6.0,
                value(key),
                self.unit
            );
            y += ROW;
        }
        y + 12.0
    }
}
