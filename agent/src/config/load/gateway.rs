//! `[gateway]` and `[verdict]`

use std::time::Duration;

use crate::config::{
    Gateway, Profile, Verdicts,
    reader::{Example, Section},
    values::{self, Fault, Given},
};

const DAY: Duration = Duration::from_hours(24);

pub(super) fn read(mut section: Section<'_>) -> Option<Gateway> {
    let profile = section.or("profile", Profile::Locator, profile);
    let asid = section.required("asid", Example("\"999999999999\""), values::asid);
    let upstream = section.required(
        "upstream",
        Example("\"http://127.0.0.1:8080\""),
        values::http_origin,
    );
    let base_path = section.or("base_path", "/STU3".to_owned(), values::base_path);
    let max_connections = section.or("max_connections", 4096, values::integer(1..=1_000_000));
    let max_body = section.or("max_body", 1 << 20, values::integer(1..=64 << 20));
    let max_head = section.or("max_head", 32 << 10, values::integer(1 << 10..=1 << 20));
    let max_headers = section.or("max_headers", 64, values::integer(1..=1000));
    let max_request_line = section.or("max_request_line", 8 << 10, values::integer(64..=64 << 10));
    let wait = || values::duration(Duration::from_millis(100)..=Duration::from_mins(10));
    let header_timeout = section.or("header_timeout", Duration::from_secs(10), wait());
    let idle_timeout = section.or("idle_timeout", Duration::from_mins(1), wait());
    let body_timeout = section.or("body_timeout", Duration::from_secs(30), wait());
    let upstream_timeout = section.or("upstream_timeout", Duration::from_secs(30), wait());
    let drain = values::duration(Duration::ZERO..=Duration::from_mins(10));
    let drain_timeout = section.or("drain_timeout", Duration::from_secs(10), drain);
    if let (Some(line), Some(head)) = (max_request_line, max_head)
        && line > head
    {
        let message = format!("{line} is more than gateway.max_head, {head}");
        section.fault(
            "max_request_line",
            Fault::new(message, "lower it, or raise max_head"),
        );
    }
    section.finish();

    Some(Gateway {
        profile: profile?,
        asid: asid?,
        upstream: upstream?,
        base_path: base_path?,
        max_connections: max_connections?,
        max_body: max_body?,
        max_head: max_head?,
        max_headers: max_headers?,
        max_request_line: max_request_line?,
        header_timeout: header_timeout?,
        idle_timeout: idle_timeout?,
        body_timeout: body_timeout?,
        upstream_timeout: upstream_timeout?,
        drain_timeout: drain_timeout?,
    })
}

pub(super) fn verdicts(mut section: Section<'_>) -> Option<Verdicts> {
    let strikes = || values::integer(1..=1_000_000);
    let system_threshold = section.or("system_threshold", 10, strikes());
    let proxy_threshold = section.or("proxy_threshold", 100, strikes());
    let span = || values::duration(Duration::from_secs(1)..=DAY);
    let half_life = section.or("half_life", Duration::from_mins(1), span());
    let ttl = section.or("ttl", Duration::from_mins(1), span());
    let ttl_max = section.or("ttl_max", Duration::from_hours(1), span());
    if let (Some(ttl), Some(ttl_max)) = (ttl, ttl_max)
        && ttl > ttl_max
    {
        let shown = |span| humantime::format_duration(span).to_string();
        let message = format!("{} is shorter than verdict.ttl, {}", shown(ttl_max), shown(ttl));
        section.fault("ttl_max", Fault::new(message, "raise ttl_max, or lower ttl"));
    }
    section.finish();

    Some(Verdicts {
        system_threshold: system_threshold?,
        proxy_threshold: proxy_threshold?,
        half_life: half_life?,
        ttl: ttl?,
        ttl_max: ttl_max?,
    })
}

/// The profile is known from the start, so that a file for a later version is told so and not called misspelt.
fn profile(given: Given<'_>) -> Result<Profile, Fault> {
    let served = values::choice(&[("locator", Some(Profile::Locator)), ("provider", None)])(given)?;
    served.ok_or_else(|| {
        Fault::new(
            "\"provider\" is not served by this version",
            "write profile = \"locator\"",
        )
    })
}
