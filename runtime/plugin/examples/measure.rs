//! temporary
use std::time::Instant;
use plugin::*;
fn main() {
    let dir = std::path::PathBuf::from("/tmp/measure-cache");
    let _ = std::fs::remove_dir_all(&dir);
    for path in std::env::args().skip(1) {
        let path = std::path::PathBuf::from(path);
        let mut compile = vec![]; let mut cached = vec![]; 
        for _ in 0..9 {
            let _ = std::fs::remove_dir_all(&dir);
            let host = Host::new(HostOptions { cache_dir: Some(dir.clone()), ..Default::default() }).unwrap();
            let t = Instant::now(); let c = host.load(&path).unwrap(); compile.push(t.elapsed()); assert!(!c.from_cache());
            let t = Instant::now(); let c = host.load(&path).unwrap(); cached.push(t.elapsed()); assert!(c.from_cache());
        }
        compile.sort(); cached.sort();
        println!("{} compile {:?} cached {:?}", path.display(), compile[4], cached[4]);
        let host = Host::new(HostOptions::default()).unwrap();
        for _ in 0..2 { println!("{}", bench(&host, &path).unwrap()); }
        let t = Instant::now(); let lines = plugin::inspect::test(&host, &path, 1, 6); println!("test {:?}: {:?}", t.elapsed(), lines);
    }
}
