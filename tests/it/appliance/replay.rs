//! `alphaplus replay`: the bits of any retained prediction, after revisions, restarts and while it serves.

use super::harness::{ModelSpec, bar, bar_with, setup, warm};

#[test]
fn every_kind_of_prediction_is_recomputed_to_the_bit() {
    let s = setup(&ModelSpec::default());
    let mut server = s.serve();
    let mut c = server.client();
    let n = s.need_bars as u64;
    warm(&mut c, "A", s.need_bars);
    let mut lines: Vec<String> = (n..n + 140).map(|i| bar("A", i)).collect();
    lines.push(bar_with("A", n + 140, ",\"final\":false").replace("\"volume\":", "\"volume\":3"));
    lines.push(bar_with("A", n + 140, ",\"final\":true,\"revision\":1"));
    lines.push(bar_with("A", n + 130, ",\"revision\":1").replace("\"volume\":", "\"volume\":2"));
    lines.extend((n + 141..n + 150).map(|i| bar("A", i)));
    for line in &lines {
        let reply = c.post("/v1/bars", line).unwrap();
        assert_eq!(reply.status, 200, "{}", reply.body);
    }
    let replay = |seq: u64| {
        let output = s.command().args(["replay", &seq.to_string()]).output().unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    };
    let wanted = [1, 2, 64, 139, 140, 141, 142, 143, 150, 152];
    for seq in wanted {
        let (same, text) = replay(seq);
        assert!(same && text.contains("the bits are the same"), "{seq}: {text}");
    }
    server.kill();
    let mut server = s.serve();
    let reply = server.client().post("/v1/bars", &bar("A", n + 150)).unwrap();
    assert_eq!(reply.status, 200);
    assert!(server.stop());
    for seq in [150, 153] {
        let (same, text) = replay(seq);
        assert!(same, "{seq}: {text}");
    }
    let (same, text) = replay(9999);
    assert!(!same && text.contains("not in"), "{text}");
}
