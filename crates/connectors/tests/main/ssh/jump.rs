//! Through other hosts.

use std::sync::Mutex as StdMutex;

use holdfast_testkit::HostKeyKind;

use super::*;

#[test]
fn one_and_two_hops() {
    let (target, key) = server_with_key(KeyKind::Ed25519, SshdOptions::default());
    let gates: Vec<_> = (0..2)
        .map(|_| {
            let gate = Sshd::start(SshdOptions::default()).unwrap();
            gate.authorize(&[&public_line(&key).unwrap()]).unwrap();
            gate
        })
        .collect();
    let hop = |gate: &Sshd| format!("{}@127.0.0.1:{}", gate.user(), gate.port());
    block_on(async {
        let mut asked = with_key(&target, &key);
        asked.proxy_jump = Some(hop(&gates[0]));
        let steps = StdMutex::new(Vec::new());
        let connector = Connector::new(asked.clone(), Arc::new(NoInteraction));
        let session = connector
            .connect(&|step| steps.lock().unwrap().push((step.stage, step.host.to_owned())))
            .await
            .unwrap();
        assert_sftp(&session).await;
        assert!(gates[0].log().contains("Accepted publickey"));
        let seen = steps.lock().unwrap().clone();
        let gate = hop(&gates[0]);
        let end = format!("{}@127.0.0.1:{}", target.user(), target.port());
        let expected: Vec<_> = [
            (Stage::Settings, &end),
            (Stage::Settings, &gate),
            (Stage::Resolve, &gate),
            (Stage::Tcp, &gate),
            (Stage::Handshake, &gate),
            (Stage::HostKey, &gate),
            (Stage::SignIn, &gate),
            (Stage::Tcp, &end),
            (Stage::Handshake, &end),
            (Stage::HostKey, &end),
            (Stage::SignIn, &end),
        ]
        .map(|(stage, host)| (stage, host.clone()))
        .into();
        assert_eq!(seen, expected);

        asked.proxy_jump = Some(format!("{},{}", hop(&gates[0]), hop(&gates[1])));
        assert_sftp(&connect(asked.clone()).await.unwrap()).await;
        assert!(gates[1].log().contains("Accepted publickey"));

        // The same by ssh_config.
        let config = target.directory().join("config-of-user");
        let text = format!(
            "Host target\n HostName 127.0.0.1\n Port {}\n User {}\n ProxyJump gate\n\
             Host gate\n HostName 127.0.0.1\n Port {}\n User {}\n",
            target.port(),
            target.user(),
            gates[0].port(),
            gates[0].user(),
        );
        std::fs::write(&config, text).unwrap();
        let asked = SshOptions {
            host: "target".into(),
            port: None,
            username: None,
            proxy_jump: None,
            ssh_config: ConfigFiles::Files(vec![config]),
            ..asked
        };
        assert_sftp(&connect(asked).await.unwrap()).await;
    });
}

#[test]
fn each_hop_is_checked_for_itself() {
    let (target, key) = server_with_key(KeyKind::Ed25519, SshdOptions::default());
    let mut gate = Sshd::start(SshdOptions::default()).unwrap();
    let known = target.directory().join("known");
    let through = SshOptions {
        proxy_jump: Some(format!("{}@127.0.0.1:{}", gate.user(), gate.port())),
        known_hosts_file: Some(known.clone()),
        accept_new_host_key: false,
        ..with_key(&target, &key)
    };
    let hop_error = |error: SshError| match *error.problem {
        Problem::ProxyJump { hop, error } => {
            assert!(hop.ends_with(&format!(":{}", gate.port())), "{hop}");
            *error
        }
        other => panic!("{other}"),
    };
    block_on(async {
        let error = refused(through.clone()).await;
        assert_eq!((error.class(), error.stage), (Class::ProxyJump, Stage::HostKey));
        assert_eq!(hop_error(error).class(), Class::HostKeyUnknown);
        let line = gate.known_hosts_line(HostKeyKind::Ed25519).unwrap();
        std::fs::write(&known, format!("{line}\n")).unwrap();
        // The hop is known and lets nobody in.
        assert_eq!(hop_error(refused(through.clone()).await).class(), Class::Authentication);
        gate.authorize(&[&public_line(&key).unwrap()]).unwrap();
        // The target's own key is its own matter.
        assert_eq!(refused(through.clone()).await.class(), Class::HostKeyUnknown);
        let both = format!("{line}\n{}\n", target.known_hosts_line(HostKeyKind::Ed25519).unwrap());
        std::fs::write(&known, both).unwrap();
        assert_sftp(&connect(through.clone()).await.unwrap()).await;

        // Beyond the hop nobody answers.
        let mut dead = through.clone();
        dead.port = Some(1);
        assert_eq!(hop_error(refused(dead).await).class(), Class::ChannelRefused);
    });
    gate.restart_with(&["AllowTcpForwarding no"]).unwrap();
    block_on(async {
        match *refused(through).await.problem {
            Problem::ProxyJump { error, .. } => assert_eq!(error.class(), Class::ChannelRefused),
            other => panic!("{other}"),
        }
    });
}

#[test]
fn the_targets_password_is_not_for_the_hop() {
    if without_root("passwords") {
        return;
    }
    let password = "shared by chance";
    let with_password =
        || Sshd::start(SshdOptions { password: Some(password.into()), ..Default::default() });
    let (target, gate) = (with_password().unwrap(), with_password().unwrap());
    block_on(async {
        let mut asked = options(&target);
        asked.password = Some(password.into());
        asked.proxy_jump = Some(format!("{}@127.0.0.1:{}", gate.user(), gate.port()));
        let error = refused(asked.clone()).await;
        match *error.problem {
            Problem::ProxyJump { error, .. } => {
                let failure = auth(*error);
                assert!(failure.nobody_asked && failure.attempts.is_empty(), "{failure:?}");
            }
            other => panic!("{other}"),
        }
        assert!(!gate.log().contains("Accepted") && !gate.log().contains("Failed password"));
        let script =
            Arc::new(Script { passwords: Mutex::new(vec![password]), ..Script::default() });
        assert_sftp(&connect_asking(asked, &script).await.unwrap()).await;
        assert_eq!(script.asked(), [format!("SSH password of {}@127.0.0.1", gate.user())]);
    });
}

#[test]
fn hops_without_end() {
    let (server, key) = server_with_key(KeyKind::Ed25519, SshdOptions::default());
    let config = server.directory().join("config-of-user");
    std::fs::write(&config, "ProxyJump again\n").unwrap();
    block_on(async {
        let mut asked = with_key(&server, &key);
        asked.ssh_config = ConfigFiles::Files(vec![config]);
        let error = refused(asked).await;
        assert!(error.to_string().contains("without end"), "{error}");
    });
}
