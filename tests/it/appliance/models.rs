//! Models by alias, over the command line and HTTP: pointed at, rolled back, followed at a start, carried to another
//! folder.

use std::path::Path;

use registry::{Registry, Version};

use super::harness::{ModelSpec, Setup, bar, setup, warm};

const ADMIN: &str = "admin-token-0123456789";

/// Version 2 predicts twice what version 1 does.
pub fn two_versions() -> Setup {
    let mut s = setup(&ModelSpec::default());
    let registry = Registry::open(s.folder.path().join("models")).unwrap();
    let first = registry.load("test", Version::Number(1)).unwrap();
    let mut manifest = first.manifest;
    manifest.label.scale *= 2.0;
    registry.publish(manifest, &[("model.onnx", &first.onnx)]).unwrap();
    s.set("deployments", "[{model=\"models:/test@champion\",symbols=[\"*\"],timeframe=\"1h\"}]");
    s
}

/// What a command prints; `Err` what it complains of.
pub fn run(s: &Setup, args: &[&str]) -> Result<String, String> {
    let output = s.command().args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[test]
fn an_alias_is_moved_followed_and_rolled_back() {
    let mut s = two_versions();
    assert!(s.refused().contains("no alias 'champion'"), "{}", s.refused());
    let said = run(&s, &["models", "alias", "test", "champion", "1", "--why", "the first", "--who", "ann"]);
    assert!(said.unwrap().contains("– → 1"));
    run(&s, &["models", "alias", "test", "challenger", "latest"]).unwrap();
    let listed = run(&s, &["models", "list"]).unwrap();
    assert!(
        listed.contains("test/1") && listed.contains("@champion") && listed.contains("@challenger"),
        "{listed}"
    );

    let token = s.folder.path().join("token");
    std::fs::write(&token, ADMIN).unwrap();
    let mut server = s.serve();
    let mut client = server.client();
    warm(&mut client, "A", s.need_bars);
    assert_eq!(client.post("/v1/bars", &bar("A", s.need_bars as u64)).unwrap().status, 200);
    let first = client.get("/v1/predictions/A?model=models:/test@champion").unwrap().json();
    assert_eq!(first["model"], "test/1");
    assert_eq!(client.get("/v1/predictions/A?model=test/1").unwrap().json()["seq"], first["seq"]);
    let other = client.get("/v1/predictions/A?model=test@challenger").unwrap();
    assert!(other.status == 400 && other.body.contains("is not deployed"), "{}", other.body);
    let ready = client.get("/v2/health/ready").unwrap().json();
    assert_eq!(ready["models"][0]["deployed_as"], "models:/test@champion");
    let refused = client.request("PUT", "/v1/models/test/aliases/champion", &[], "{\"version\":2}").unwrap();
    assert!(refused.status == 403 && refused.body.contains("server.tokens.admin_file"), "{}", refused.body);
    assert!(server.stop());

    s.set("server.tokens.admin_file", &format!("{:?}", token.display().to_string()));
    let mut server = s.serve();
    let mut client = server.client();
    let bearer = format!("Bearer {ADMIN}");
    let mut ask = |method: &str, path: &str, body: &str| {
        let reply = client.request(method, path, &[("Authorization", &bearer)], body).unwrap();
        (reply.status, reply.json())
    };
    let champion = "/v1/models/test/aliases/champion";
    let (status, json) = ask("PUT", champion, "{\"version\":2,\"who\":\"bob\",\"why\":\"it is better\"}");
    assert_eq!((status, json["change"]["to"].as_u64()), (200, Some(2)), "{json}");
    assert_eq!(ask("PUT", champion, "{\"version\":2}").1["moved"], false);
    assert_eq!(ask("PUT", champion, "{\"version\":3}").0, 404);
    assert_eq!(ask("PUT", champion, "{\"versio\":3}").0, 400);
    assert_eq!(ask("PUT", champion, "").0, 400);
    assert_eq!(ask("POST", champion, "{\"version\":2}").0, 405);
    assert_eq!(ask("PUT", "/v1/models/none/aliases/champion", "{\"version\":2}").0, 404);
    assert_eq!(ask("PUT", "/v1/models/..%2fx/aliases/champion", "{\"version\":2}").0, 400);
    assert_eq!(ask("GET", "/v1/models", "").1["models"][0]["aliases"]["champion"], 2);
    let told = ask("GET", "/v1/events?model=test&last=50", "").1["events"].as_array().unwrap().clone();
    let moved = told.iter().rfind(|event| event["kind"] == "alias_moved").unwrap();
    assert_eq!((&moved["who"], &moved["model"]), (&"bob".into(), &"test/2".into()), "{told:?}");
    assert_eq!(ask("GET", "/v1/events?model=none", "").1["events"], serde_json::json!([]));
    assert_eq!(ask("GET", "/v1/events?lats=3", "").0, 400);
    assert!(server.stop());

    let mut server = s.serve();
    let mut client = server.client();
    assert_eq!(client.post("/v1/bars", &bar("A", s.need_bars as u64 + 1)).unwrap().status, 200);
    let second = client.get("/v1/predictions/A?model=test@champion").unwrap().json();
    assert_eq!(second["model"], "test/2", "the restart follows the alias");
    let (status, json) = {
        let path = format!("{champion}/rollback");
        let reply = client.request("POST", &path, &[("Authorization", &bearer)], "").unwrap();
        (reply.status, reply.json())
    };
    assert_eq!((status, json["change"]["to"].as_u64()), (200, Some(1)), "one call: {json}");
    let reply =
        client.request("POST", &format!("{champion}/rollback"), &[("Authorization", &bearer)], "{}").unwrap();
    assert_eq!(reply.status, 409, "{}", reply.body);
    assert!(server.stop());
    let history = run(&s, &["models", "history", "test", "--alias", "champion"]).unwrap();
    for part in
        ["ann", "the first", "bob", "it is better", "1 → 2", "2 → 1", "rollback", "test@champion is 1"]
    {
        assert!(history.contains(part), "{part} is not in\n{history}");
    }
    let error = run(&s, &["models", "rollback", "test"]).unwrap_err();
    assert!(error.contains("first version"), "{error}");
    let events = run(&s, &["events", "--model", "test"]).unwrap();
    let kinds: Vec<&str> = events.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    // What served followed, where it had the time to.
    assert_eq!(
        kinds.into_iter().filter(|kind| *kind != "swapped").collect::<Vec<_>>(),
        ["alias_moved", "alias_moved", "alias_moved", "rolled_back"],
        "by command and over HTTP\n{events}"
    );
}

#[test]
fn aliases_of_one_version_are_not_deployed_beside_each_other() {
    let mut s = two_versions();
    run(&s, &["models", "alias", "test", "champion", "1"]).unwrap();
    run(&s, &["models", "alias", "test", "challenger", "@champion"]).unwrap();
    let deploy = |a: &str, b: &str| {
        let one = |m: &str| format!("{{model={m:?},symbols=[\"*\"],timeframe=\"1h\"}}");
        format!("[{},{}]", one(a), one(b))
    };
    s.set("deployments", &deploy("test@champion", "models:/test@challenger"));
    let said = s.refused();
    assert!(said.contains("both lead to test/1"), "{said}");
    run(&s, &["models", "alias", "test", "challenger", "2"]).unwrap();
    s.set("deployments", &deploy("test@champion", "test@champion"));
    assert!(s.refused().contains("deployed twice"));
    s.set("deployments", &deploy("test@champion", "test@challenger"));
    let mut server = s.serve();
    let mut client = server.client();
    warm(&mut client, "A", s.need_bars);
    client.post("/v1/bars", &bar("A", s.need_bars as u64)).unwrap();
    let value = |alias: &str, client: &mut crate::http::Client| {
        client.get(&format!("/v1/predictions/A?model=test@{alias}")).unwrap().json()["value"]
            .as_f64()
            .unwrap()
    };
    let (champion, challenger) = (value("champion", &mut client), value("challenger", &mut client));
    assert!((challenger - 2.0 * champion).abs() <= 1e-6 * challenger.abs(), "{champion} {challenger}");
    assert!(server.stop());
}

#[test]
fn a_version_is_carried_to_another_folder_and_compared() {
    let s = two_versions();
    let archive = s.folder.path().join("two.tar");
    let out = archive.display().to_string();
    run(&s, &["models", "export", "models:/test/2", "--out", &out]).unwrap();
    let again = run(&s, &["models", "export", "test/2", "--out", &out]).unwrap_err();
    assert!(again.contains("is there already"), "{again}");
    let mut there = setup(&ModelSpec::default());
    there.set("models.folder", &format!("{:?}", there.folder.path().join("other").display().to_string()));
    let said = run(&there, &["models", "import", &out]).unwrap();
    assert!(said.contains("imported test/2"), "{said}");
    assert!(run(&there, &["models", "import", &out]).unwrap().contains("here already"));
    let digest = |root: &Path| Registry::open(root).unwrap().load("test", Version::Number(2)).unwrap().digest;
    assert_eq!(digest(&s.folder.path().join("models")), digest(&there.folder.path().join("other")));
    let mut bytes = std::fs::read(&archive).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&archive, bytes).unwrap();
    let error = run(&there, &["models", "import", &out, "--name", "other"]).unwrap_err();
    assert!(error.contains("SHA-256"), "{error}");

    let compared = run(&s, &["models", "compare", "test/1", "test/2", "--latency"]).unwrap();
    for part in ["test/1", "test/2", "label.scale", "here.latency_us_p50", "are the same in both"] {
        assert!(compared.contains(part), "{part} is not in\n{compared}");
    }
    assert!(!compared.contains("architecture.hyper.hidden"));
    let all = run(&s, &["models", "compare", "test/1", "test/2", "--all"]).unwrap();
    assert!(all.contains("architecture.hyper.hidden") && all.contains("[-1.0000, 1.0000]"), "{all}");
}
