//! The same in the configuration of `serve`.

use vmthunder_volume::{BlockSize, Class, Volume};

use crate::harness::{Scene, attach, connect, free_address, refuse, run, succeed};

#[tokio::test]
async fn a_configuration_serves_files_beside_images_and_instances() {
    let scene = Scene::new();
    scene.image("golden.raw", 1);
    scene.image("b.raw", 1);
    scene.secret("secrets", "alice:correct horse battery\n");
    let rest = "[[image]]\nname = \"golden\"\nfile = \"golden.raw\"\n\
        [[target]]\nname = \"disks\"\nnetworks = [\"127.0.0.0/8\"]\n\
        [target.chap]\nsecret-file = \"secrets\"\nalgorithms = [\"md5\"]\n\
        [[target.lun]]\nfile = \"a.raw\"\nsize = \"1 MiB\"\nblock-size = 4096\nserial = \"A1\"\n\
        [[target.lun]]\nfile = \"b.raw\"\nread-only = true\nnumber = 9\n\
        [[target]]\nname = \"iqn.2026-11.org.example:other\"\ninitiators = [\"iqn.*:nobody\"]\n\
        [[target.lun]]\nfile = \"c.raw\"\nsize = 65536\nthin = false\n\
        [limits]\nsessions = 3\nlogin-timeout = 5\n[access]\nnetworks = [\"127.0.0.1\"]\n";
    let config = scene.config("node", free_address(), rest);
    let node = scene.serve(&config);
    let urls = [(); 4].map(|()| node.url());
    let alice = |url: &str| url.replace("iscsi://", "iscsi://alice%correct horse battery@");
    let a = attach(&alice(&urls[0])).await;
    assert_eq!(a.geometry().block_size(), BlockSize::B4096);
    assert_eq!(a.geometry().bytes(), 1 << 20);
    assert!(urls[1].ends_with(":disks/9"));
    let b = attach(&alice(&urls[1])).await;
    assert!(b.is_read_only());
    connect(&urls[0]).await.unwrap_err();
    connect(&urls[2]).await.unwrap_err();
    let _golden = attach(&urls[3]).await;

    let config = config.display().to_string();
    let resize = ["lun", "resize", "disks", "2MiB", "--config", &config];
    assert!(succeed(&resize).contains("512 blocks of 4096"));
    let create = [
        "instance", "create", "vm", "--image", "golden", "--config", &config,
    ];
    let instance = succeed(&create);
    // The fourth of three sessions.
    let output = run(&["iscsi", "capacity", instance.trim()]);
    assert_eq!(output.status.code(), Some(2));
    node.stop();
}

#[tokio::test]
async fn images_that_want_a_secret_are_read_with_it() {
    let scene = Scene::new();
    let image = scene.image("golden.raw", 2);
    let golden = scene.arg("golden.raw");
    succeed(&["image", "import", &golden]);
    scene.secret("secrets", "node:correct horse battery\n");
    let secret = scene.secret("secret", "correct horse battery\n");
    let rest = "[[image]]\nname = \"golden\"\nfile = \"golden.raw\"\n\
        [access]\ninitiators = [\"iqn.2026-11.org.vmthunder:node.*\"]\n\
        [access.chap]\nsecret-file = \"secrets\"\n";
    let origin = scene.serve(&scene.config("origin", free_address(), rest));
    let url = origin.url().replace("iscsi://", "iscsi://node@");
    let manifest = format!("{golden}.manifest");
    let verify = ["image", "verify", &url, "--manifest", &manifest];
    succeed(&[&verify[..], &["--chap-secret-file", &secret]].concat());
    assert!(refuse(&verify).contains("--chap-secret-file"));

    let rest = format!(
        "[cache]\nsize = \"16 MiB\"\n[[image]]\nname = \"golden\"\norigin = {url:?}\nsecret-file = \"secret\"\n"
    );
    let node = scene.serve(&scene.config("node", free_address(), &rest));
    let disk = attach(&node.url()).await;
    let whole = disk.geometry().whole();
    assert!(disk.read(whole, Class::Demand).await.unwrap() == image);
}

#[test]
fn a_configuration_that_is_wrong_names_the_place() {
    let scene = Scene::new();
    scene.image("a.raw", 1);
    let lun = "[[target]]\nname = \"d\"\n[[target.lun]]\nfile = \"a.raw\"\n";
    for (rest, causes) in [
        (
            "[[target]]\nname = \"d\"\n",
            ["target `d`", "[[target.lun]]"],
        ),
        (
            &format!("{lun}blocksize = 512\n"),
            ["node.toml:8", "did you mean `block-size`?"],
        ),
        (
            &format!("{lun}block-size = 1024\n"),
            ["node.toml:8", "512 or 4096"],
        ),
        (
            &format!("{lun}[target.chap]\nuser = \"x\"\n"),
            ["node.toml:8", "secret-file"],
        ),
        (
            &format!("{lun}{lun}"),
            ["two targets are named", "vmthunder:d"],
        ),
        (
            "[[target]]\nname = \"D 1\"\n[[target.lun]]\nfile = \"a\"\n",
            ["target.name", "D 1"],
        ),
        (
            "[access]\nnetworks = [\"10.0.0.0/99\"]\n",
            ["node.toml:5", "10.0.0.0/99"],
        ),
        ("[limits]\nsessions = 0\n", ["`limits`", "1 to 65535"]),
    ] {
        let config = scene.config("node", free_address(), rest);
        let said = refuse(&["serve", "--config", &config.display().to_string()]);
        for cause in causes {
            assert!(said.contains(cause), "{rest} lacks {cause:?}: {said}");
        }
    }
}
