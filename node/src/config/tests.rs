use super::*;

fn parse(text: &str) -> Result<Config> {
    Config::parse(text, "node.toml", Path::new("/etc/vmthunder"))
}

fn refusal(text: &str) -> String {
    format!("{:#}", parse(text).unwrap_err())
}

const HEAD: &str = "name = \"n1\"\ndata = \"/var/lib/vmthunder\"\nlisten = [\"127.0.0.1:0\"]\n";

#[test]
fn a_whole_configuration_is_read() {
    let config = parse(&format!(
        "{HEAD}[cache]\nsize = \"1 GiB\"\n[[image]]\nname = \"a\"\nfile = \"a.raw\"\n[[image]]\nname = \"b\"\n\
         origin = \"iscsi://10.0.0.1/iqn.2026-11.org.example:b/1\"\n[swarm]\nkey-file = \"key\"\n\
         members = [{{ name = \"n1\", address = \"10.0.0.1:3260\" }}, {{ name = \"n2\", address = \"10.0.0.2:3260\" }}]\n"
    ))
    .unwrap();
    assert_eq!(config.cache.as_u64(), 1 << 30);
    let cache = config.cache_file.unwrap();
    assert_eq!(cache, Path::new("/var/lib/vmthunder/cache"));
    let swarm = config.swarm.unwrap();
    assert_eq!(swarm.key_file, Path::new("/etc/vmthunder/key"));
    let MemberSource::Listed(list) = swarm.source else {
        panic!("a list")
    };
    let members: Vec<&str> = list.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(members, ["n2"], "a node is no member of its own list");
    let Source::File { path, manifest } = &config.images[0].source else {
        panic!("a file")
    };
    assert_eq!(path, Path::new("/etc/vmthunder/a.raw"));
    assert_eq!(manifest.as_deref(), None);
    assert_eq!(beside(path), Path::new("/etc/vmthunder/a.raw.manifest"));
}

#[test]
fn etcd_is_a_way_to_know_the_members() {
    let read = |rest: &str| {
        let config = parse(&format!("{HEAD}[swarm]\nkey-file = \"key\"\n{rest}"));
        match config.unwrap().swarm.unwrap().source {
            MemberSource::Etcd(etcd) => etcd,
            other => panic!("{other:?}"),
        }
    };
    let etcd = read("etcd = [\"http://10.0.0.1:2379\", \"http://10.0.0.2\"]\n");
    let places: Vec<String> = etcd.endpoints.iter().map(ToString::to_string).collect();
    assert_eq!(places, ["http://10.0.0.1:2379", "http://10.0.0.2:2379"]);
    assert_eq!(etcd.prefix, "/vmthunder/");
    assert!(etcd.login.is_none() && etcd.tls.is_none());
    let etcd = read(
        "etcd = [\"https://etcd:1\"]\netcd-prefix = \"/blue\"\netcd-user = \"u\"\netcd-password-file = \"p\"\n\
         etcd-ca-file = \"ca\"\netcd-certificate-file = \"c\"\netcd-key-file = \"/k\"\n",
    );
    assert_eq!(etcd.prefix, "/blue/");
    let at = |name: &str| Path::new("/etc/vmthunder").join(name);
    assert_eq!(etcd.login, Some(("u".into(), at("p"))));
    assert_eq!(etcd.tls, Some((at("ca"), Some((at("c"), "/k".into())))));
}

#[test]
fn the_cache_has_a_place_of_its_own_and_its_size_by_default() {
    let config = parse(&format!("{HEAD}[cache]\nfile = \"/ssd/vmthunder.cache\"\n")).unwrap();
    assert_eq!(config.cache.as_u64(), 8 << 30);
    let cache = config.cache_file.unwrap();
    assert_eq!(cache, Path::new("/ssd/vmthunder.cache"));
    let config = parse(&format!("{HEAD}[cache]\nfile = \"here\"\n")).unwrap();
    let cache = config.cache_file.unwrap();
    assert_eq!(cache, Path::new("/etc/vmthunder/here"), "as all paths");
}

#[test]
fn an_unknown_key_is_refused_with_file_line_and_suggestion() {
    let text = HEAD.replace("listen", "lisen");
    let refusal = refusal(&text);
    assert!(
        refusal.starts_with("node.toml:3: unknown field `lisen`"),
        "{refusal}"
    );
    assert!(refusal.ends_with("did you mean `listen`?"), "{refusal}");
}

#[test]
fn nonsense_is_refused_by_name() {
    assert!(refusal(&HEAD.replace("n1", "N 1/..")).contains("`name` is `N 1/..`"));
    assert!(refusal(&HEAD.replace("\"127.0.0.1:0\"", "")).contains("`listen` is empty"));
    assert!(refusal(&format!("{HEAD}[cache]\nsize = \"1 KiB\"\n")).contains("the least is"));
    for size in ["\"8 GGiB\"", "true", "-1"] {
        let refusal = refusal(&format!("{HEAD}[cache]\nsize = {size}\n"));
        assert!(
            refusal.starts_with("node.toml:5: a size is a number"),
            "{refusal}"
        );
    }
    assert!(refusal(&format!("{HEAD}[[image]]\nname = \"a\"\n")).contains("either a `file`"));
    let member = |address| {
        refusal(&format!(
            "{HEAD}[swarm]\nkey-file = \"key\"\nmembers = [{{ name = \"n2\", address = \"{address}\" }}]\n"
        ))
    };
    assert!(member("::1").contains("`::1` is not HOST[:PORT]"));
    assert!(member("n2:none").contains("not a number from 1 to 65535"));
    let swarm = |rest| refusal(&format!("{HEAD}[swarm]\nkey-file = \"key\"\n{rest}\n"));
    assert!(swarm("").contains("either `seeds`"));
    assert!(swarm("seeds = []\nmembers = []").contains("either `seeds`"));
    assert!(swarm("seeds = [\"::1\"]").contains("`::1` in `seeds` is not HOST[:PORT]"));
    assert!(swarm("seeds = []\naddress = \"n1\"").contains("`n1`: invalid socket address"));
    assert!(swarm("seeds = []\netcd = [\"http://a\"]").contains("either `seeds`"));
    assert!(swarm("etcd = []").contains("`etcd` is empty"));
    assert!(
        swarm("etcd = [\"10.0.0.1:2379\"]")
            .contains("`10.0.0.1:2379` in `etcd`: it is not http://")
    );
    assert!(swarm("etcd = [\"https://a\"]").contains("`etcd-ca-file`"));
    assert!(swarm("etcd = [\"http://a\"]\netcd-ca-file = \"x\"").contains("https:// only"));
    assert!(swarm("etcd = [\"http://a\"]\netcd-user = \"x\"").contains("belong together"));
    assert!(swarm("etcd = [\"http://a\"]\netcd-prefix = \"a b\"").contains("printable"));
    assert!(swarm("seeds = []\netcd-prefix = \"/x\"").contains("nothing without `etcd`"));
    let origin =
        "[[image]]\nname = \"a\"\norigin = \"iscsi://me%s@h/iqn.2026-11.org.example:a/0\"\n";
    assert!(refusal(&format!("{HEAD}{origin}")).contains("holds a secret"));
    let twice = "[[image]]\nname = \"a\"\nfile = \"x\"\n".repeat(2);
    assert!(refusal(&format!("{HEAD}{twice}")).contains("two images"));
}

#[test]
fn the_budget_of_an_origin_is_read_and_checked() {
    let image = |keys: &str| {
        let origin = "origin = \"iscsi://10.0.0.1/iqn.2026-11.org.example:b/1\"";
        format!("{HEAD}[[image]]\nname = \"b\"\n{origin}\n{keys}\n")
    };
    let config = parse(&image("origin-reads = 8\norigin-rate = \"10 MB\"")).unwrap();
    let budget = &config.images[0].swarm;
    assert_eq!(budget.origin_queue.get(), 8);
    assert_eq!(budget.origin_bytes_per_second.unwrap().get(), 10_000_000);
    assert!(refusal(&image("origin-reads = 0")).contains("1 to 4096"));
    assert!(refusal(&image("origin-rate = 1")).contains("the least is"));
    let file = format!("{HEAD}[[image]]\nname = \"a\"\nfile = \"a.raw\"\norigin-reads = 8\n");
    assert!(refusal(&file).contains("belong to an image with an `origin`"));
}
