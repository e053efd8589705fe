// Included by the examples of the documentation and by the tests of `examples/`: a target in this process, for as long as
// the runtime lives. One target with one unit of 8 MiB of zeros, LUN 0.
async fn serve_a_disk() -> String {
    use iscsi_target::{Export, Target, TargetOptions, Unit, UnitIdentity};
    use vmthunder_volume::{BlockSize, Geometry, testing::MemVolume};

    let disk = MemVolume::zeroed(Geometry::of_bytes(BlockSize::B512, 8 << 20));
    let name = "iqn.2025-01.org.example:disk".parse().expect("a name");
    let unit = Unit::new(0, disk, UnitIdentity::locally_assigned(1, "example"));
    let target = Target::new(TargetOptions::default());
    target
        .export(Export::new(name, vec![unit]))
        .expect("an export");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(target.serve(listener, tokio_util::sync::CancellationToken::new()));
    address
}
