//! Formats met in the data and elsewhere, the calendar against jiff's, and text that is no time.

use super::*;

fn check(zone: &str, text: &str, expect: &str) {
    let format = TimeFormat::detect(text).unwrap_or_else(|| panic!("{text}: no format"));
    let clock = Clock { format, zone: Zone::named(zone).expect("zone") };
    let got = clock.read(text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    assert_eq!(got, Instant::At(Timestamp::parse(expect).expect("expected time")), "{text}");
}

#[test]
fn formats_found_in_the_data() {
    check("UTC", "2017-08-17T04:00:00Z", "2017-08-17T04:00:00Z");
    check("UTC", "2021-12-31 23:01:00.000000", "2021-12-31T23:01:00Z");
    check("UTC", "2013-02-08", "2013-02-08T00:00:00Z");
    check("UTC", "29.12.2017 21:00:00.000", "2017-12-29T21:00:00Z");
    check("UTC", "5-7-2022 04:24", "2022-07-05T04:24:00Z");
    check("UTC", "20070101 21:00", "2007-01-01T21:00:00Z");
    check("UTC", "2021-04-17 17:22:00.172344+00:00", "2021-04-17T17:22:00.172344Z");
    check("America/New_York", "19980102 09:00", "1998-01-02T14:00:00Z");
    check("America/New_York", "20210331 15:00", "2021-03-31T19:00:00Z");
}

#[test]
fn other_common_forms() {
    for text in ["1704067200", "1704067200000", "1704067200000000", "1704067200000000000", "1704067200.000"] {
        check("UTC", text, "2024-01-01T00:00:00Z");
    }
    check("UTC", "2000-02-29", "2000-02-29T00:00:00Z");
    check("UTC", "1704067200.25", "2024-01-01T00:00:00.25Z");
    check("UTC", "20240101", "2024-01-01T00:00:00Z");
    check("UTC", "2024/01/01 00:00", "2024-01-01T00:00:00Z");
    check("UTC", "2024.01.01 07:08", "2024-01-01T07:08:00Z");
    check("America/New_York", "2024-01-01T00:00:00-05:30", "2024-01-01T05:30:00Z");
    check("UTC", "2024-01-01 00:00:00 UTC", "2024-01-01T00:00:00Z");
    check("UTC", "2024-01-01T00:00:00+0100", "2023-12-31T23:00:00Z");
    assert_eq!(TimeFormat::detect("03/04/2017"), None);
    assert_eq!(TimeFormat::detect("open"), None);
}

#[test]
fn agrees_with_jiff_over_the_calendar() {
    let clock = Clock { format: TimeFormat::YearFirst, zone: Zone::Utc };
    let mut day = civil::date(1800, 1, 1);
    while day.year() < 2200 {
        let got = clock.read(&day.to_string());
        let expect = Timestamp::parse(&format!("{day}T00:00:00Z")).expect("day");
        assert_eq!(got, Ok(Instant::At(expect)), "{day}");
        day = day.saturating_add(jiff::Span::new().days(13));
    }
}

#[test]
fn local_clock_changes() {
    let clock = Clock { format: TimeFormat::YearFirst, zone: Zone::named("America/New_York").expect("zone") };
    assert_eq!(clock.read("2024-03-10 02:30"), Err(ClockError::Skipped));
    let either = Instant::Either {
        earlier: Timestamp::parse("2024-11-03T05:30:00Z").expect("time"),
        later: Timestamp::parse("2024-11-03T06:30:00Z").expect("time"),
    };
    assert_eq!(clock.read("2024-11-03 01:30"), Ok(either));
}

#[test]
fn refuses_what_no_calendar_has() {
    let clock = Clock { format: TimeFormat::YearFirst, zone: Zone::Utc };
    for text in [
        "2023-02-29",
        "1900-02-29",
        "2024-13-01",
        "2024-00-10",
        "2024-01-32",
        "2024-01-01T24:00",
        "2024-01-01T10:60",
        "",
        "2024-01-01T10",
        "2024-01-01T10:00:61",
        "2024-01-01T10:00:00+25:00",
        "2024-01-01-01",
        "2024/01-01",
        "é",
        "2024-01-01T10:00:00.5x",
        "2024-01-01 10:00:00:00",
    ] {
        assert!(clock.read(text).is_err(), "{text}");
    }
    assert_eq!(clock.read("2290-01-01"), Err(ClockError::Range));
    let epoch = Clock { format: TimeFormat::EpochSeconds, zone: Zone::Utc };
    assert_eq!(epoch.read("99999999999999"), Err(ClockError::Range));
    assert!(Zone::named("Mars/Olympus").is_none());
}

proptest::proptest! {
    #[test]
    fn any_text_is_an_instant_or_an_error(text in "\\PC{0,40}") {
        for format in [
            TimeFormat::Epoch, TimeFormat::YearFirst, TimeFormat::DayFirst, TimeFormat::MonthFirst,
            TimeFormat::Compact, TimeFormat::EpochNanos,
        ] {
            let _ = TimeFormat::detect(&text);
            for zone in ["UTC", "America/New_York"] {
                let _ = Clock { format, zone: Zone::named(zone).expect("zone") }.read(&text);
            }
        }
    }

    #[test]
    fn what_is_displayed_reads_back(seconds in -5_000_000_000i64..7_000_000_000, ns in 0i64..1_000_000_000) {
        let time = Timestamp(seconds * 1_000_000_000 + ns);
        let text = time.to_string();
        let clock = Clock { format: TimeFormat::YearFirst, zone: Zone::Utc };
        proptest::prop_assert_eq!(clock.read(&text), Ok(Instant::At(time)));
    }
}
