use super::*;

type Tested = Result<(), Box<dyn std::error::Error>>;

/// The file that `remotes` becomes, and what was told.
fn imported(
    file: &str,
    remotes: &str,
    wishes: &[&str],
    replace: bool,
) -> Result<(String, Vec<Imported>), Problem> {
    let dir = tempfile::tempdir().map_err(|e| Problem::usage(e.to_string()))?;
    let path = dir.path().join("config.toml");
    std::fs::write(&path, file).map_err(|e| Problem::usage(e.to_string()))?;
    let remotes = Remotes::parse(remotes, "rclone.conf")?;
    let wishes: Vec<_> = wishes.iter().map(|text| Wish::parse(text)).collect();
    let home = Some("/home/a".into());
    let told = Config::edit(&path, home, |config| config.import(&remotes, &wishes, replace))?;
    let text = std::fs::read_to_string(&path).map_err(|e| Problem::usage(e.to_string()))?;
    Ok((text, told))
}

fn one(remotes: &str, wishes: &[&str]) -> Result<(String, Imported), Problem> {
    let (text, told) = imported("", remotes, wishes, false)?;
    told.into_iter().next().map(|told| (text, told)).ok_or_else(|| Problem::usage("nothing"))
}

#[test]
fn an_sftp_remote_with_all_that_has_an_equal() -> Tested {
    let remotes = "# a comment\n[Office NAS]\ntype = sftp\nhost = nas.example.com\nuser = anna\n\
        port = 2222\npass = YWFhYWFhYWFhYWFhYWFhYXMaGgIlEQ\nkey_file = $HOME/.ssh/id\n\
        key_file_pass = YmJiYmJiYmJiYmJiYmJiYp3gcEWbAw\npubkey_file = ~/.ssh/id-cert.pub\n\
        known_hosts_file = ~/.ssh/known_hosts\nuse_insecure_cipher = true\n\
        disable_hashcheck = true\npath_override = @/volume1\nconnections = 8\n\
        ssh = ssh -o 'A B=c' anna@nas.example.com\nshell_type = unix\nmd5sum_command = md5sum\n\
        chunk_size = 255k\nsocks_proxy = x:1\ndescription = The one in the office\n";
    let (text, told) = one(remotes, &["Office NAS:backups/x"])?;
    let expected = "[repository.office-nas]
title = \"The one in the office\"
location = \"sftp://anna@nas.example.com:2222/~/backups/x\"
password = \"potato\"
key_file = \"~/.ssh/id\"
public_key_file = \"~/.ssh/id-cert.pub\"
key_passphrase = \"potato\"
known_hosts_file = \"~/.ssh/known_hosts\"
allow_insecure_ciphers = true
disable_hash_check = true
shell_path = \"/volume1\"
connections = 8
ssh_command = \"ssh -o 'A B=c' {} -s sftp\"
";
    assert_eq!(text, expected);
    assert_eq!(told.ignored, ["chunk_size", "socks_proxy"]);
    assert_eq!((told.fate, told.notes.as_slice()), (Fate::Imported, &[][..]));
    assert!(!format!("{told:?}").contains("potato"));
    Ok(())
}

#[test]
fn keys_of_sftp_remotes() -> Tested {
    let keys = |lines: &str| -> Result<String, Problem> {
        let (text, _) = one(&format!("[n]\ntype=sftp\nhost=h\n{lines}"), &["n:/x"])?;
        Ok(text.lines().skip(2).collect::<Vec<_>>().join("; "))
    };
    // The pasted key goes before its file.
    let pem = "key_pem = -----BEGIN\\nabc==\\n-----END\nkey_file = /k\n";
    assert_eq!(keys(pem)?, "key = '-----BEGIN\\nabc==\\n-----END'");
    // With the agent, the file says which of its keys is meant.
    let agent = "key_use_agent = true\nkey_file = /k\n";
    assert_eq!(keys(agent)?, "use_agent = true; public_key_file = \"/k.pub\"");
    assert_eq!(keys("host_keys = ssh-ed25519 AAAA\n")?, "host_key = \"ssh-ed25519 AAAA\"");
    assert_eq!(keys("pubkey = ssh-cert AAAA\n")?, "certificate = \"ssh-cert AAAA\"");
    let (_, told) = one("[n]\ntype=sftp\nhost=h\npass=plain\nkey_file=$X/y\n", &["n"])?;
    let notes = told.notes.join("\n");
    for part in ["set password anew", "key_file has variables", "did not check its host key"] {
        assert!(notes.contains(part), "{notes}");
    }
    Ok(())
}

#[test]
fn an_s3_remote_with_its_bucket() -> Tested {
    let remotes = "[minio]\ntype = s3\nprovider = Minio\naccess_key_id = AK\n\
        secret_access_key = hunter2\nsession_token = tok\nendpoint = http://minio:9000/\n\
        region = eu\nforce_path_style = true\nstorage_class = STANDARD_IA\n\
        server_side_encryption = aws:kms\nsse_kms_key_id = arn:1\nacl = private\n\
        upload_cutoff = 5M\nno_check_bucket = true\n";
    let (text, told) = one(remotes, &["minio:mybucket/a b/"])?;
    let expected = "[repository.minio]
location = \"s3://minio:9000/mybucket/a%20b\"
use_tls = false
access_key = \"AK\"
secret_access_key = \"hunter2\"
session_token = \"tok\"
region = \"eu\"
virtual_host = false
storage_class = \"STANDARD_IA\"
sse = \"aws:kms:arn:1\"
";
    assert_eq!(text, expected);
    assert_eq!(told.ignored, ["acl", "upload_cutoff"]);
    let aws =
        "[a]\ntype = s3\nprovider = AWS\nenv_auth = true\nprofile = work\nregion = cn-north-1\n";
    let (text, told) = one(aws, &["a"])?;
    assert_eq!(text, "[repository.a]\nprofile = \"work\"\nregion = \"cn-north-1\"\n");
    let next = "it is complete with: holdfast config repository set a location \
                s3://s3.cn-north-1.amazonaws.com.cn/BUCKET";
    assert_eq!(told.notes, [next]);
    let place = |endpoint: &str| {
        one(&format!("[a]\ntype=s3\nendpoint={endpoint}\n"), &["a:b"])
            .map(|(text, _)| text.lines().nth(1).unwrap_or_default().replace("location = ", ""))
    };
    assert_eq!(place("https://s3.example.com")?, "\"s3://s3.example.com/b\"");
    assert_eq!(place("http://minio")?, "\"s3://minio:80/b\"");
    assert_eq!(place("[::1]:9000")?, "\"s3://[::1]:9000/b\"");
    for bad in ["https://s3.example.com/path", "ftp://x.y", "key@host.x"] {
        assert!(place(bad).is_err_and(|p| p.message.contains("its endpoint")), "{bad}");
    }
    let (text, _) = one("[a]\ntype=s3\nprovider=Alibaba\nendpoint=oss.x.com\n", &["a:b"])?;
    assert!(text.contains("virtual_host = true"), "{text}");
    Ok(())
}

#[test]
fn local_remotes_and_aliases() -> Tested {
    let remotes = "[disk]\ntype: local\nnounc: true\n[a]\ntype=alias\nremote=/mnt/x\n\
        [b]\ntype=alias\nremote=s:bucket/p\n[c]\ntype=alias\nremote=b:deep\n\
        [s]\ntype=s3\nendpoint=s3.x.com\n[d]\ntype=alias\nremote=d:\n[e]\ntype=alias\nremote=no:\n";
    let location = |wish: &str| {
        one(remotes, &[wish]).map(|(text, _)| text.lines().nth(1).unwrap_or_default().to_owned())
    };
    assert_eq!(location("disk:/srv/x")?, "location = \"/srv/x\"");
    assert_eq!(location("a:y")?, "location = \"/mnt/x/y\"");
    assert_eq!(location("b")?, "location = \"s3://s3.x.com/bucket/p\"");
    assert_eq!(location("c:er")?, "location = \"s3://s3.x.com/bucket/p/deep/er\"");
    for (wish, part) in [
        ("disk", "names no path"),
        ("d", "circle"),
        ("e", "not there"),
        ("dsik:/x", "no remote dsik"),
    ] {
        assert!(location(wish).is_err_and(|p| p.message.contains(part)), "{wish}");
    }
    Ok(())
}

#[test]
fn what_is_there_stays_unless_it_is_to_be_replaced() -> Tested {
    let file = "# mine\n[repository.nas] # here\ntitle = \"NAS\" # t\nlocation = \"/x\"\n\
                passphrase = \"p\"\nlimit_upload = \"1M\"\n\n[repository.s]\n\
                location = \"s3://s3.x.com/bucket/p\"\naccess_key = \"old\"\nregion = \"r\"\n";
    let remotes = "[nas]\ntype=sftp\nhost=h\n[s]\ntype=s3\nendpoint=s3.x.com\naccess_key_id=new\n\
                   secret_access_key=x\n[t]\ntype=drive\n[c]\ntype=crypt\nremote=s:\n[n]\n[!]\n\
                   type=local\n";
    let (text, told) = imported(file, remotes, &[], false)?;
    assert_eq!(text, file);
    let fates: Vec<_> = told.iter().map(|told| told.fate).collect();
    let (there, out) = (Fate::Exists, Fate::LeftOut);
    assert_eq!(fates, [there, there, out, out, out, out]);
    let refused = imported(file, remotes, &["nas"], false);
    assert!(
        refused.is_err_and(|p| p.class == Class::AlreadyExists && p.message.contains("--replace"))
    );
    let (text, told) = imported(file, remotes, &[], true)?;
    assert_eq!(told.iter().filter(|told| told.fate == Fate::Replaced).count(), 2);
    let expected = "# mine\n[repository.nas] # here\ntitle = \"NAS\" # t\npassphrase = \"p\"\n\
                    limit_upload = \"1M\"\nlocation = \"sftp://h/~\"\n\n[repository.s]\n\
                    location = \"s3://s3.x.com/bucket/p\"\naccess_key = \"new\"\n\
                    secret_access_key = \"x\"\n";
    assert_eq!(text, expected);
    // One of those that were named cannot be: nothing changes.
    assert!(imported(file, remotes, &["nas", "t"], true).is_err());
    Ok(())
}

#[test]
fn files_that_are_none_are_answered_without_their_secrets() {
    let problem = |text: &str| Remotes::parse(text, "rclone.conf").err().map(|p| format!("{p:?}"));
    let encrypted = problem("# Encrypted\n\nRCLONE_ENCRYPT_V0:\nabc==\n").unwrap_or_default();
    assert!(encrypted.contains("is encrypted") && encrypted.contains("rclone config show |"));
    for (text, part) in [
        ("hunter2 = x\n", "line 1: a [NAME]"),
        ("[a]\nhunter2\n", "line 2: it is no KEY"),
        ("\n[hunter2\n", "line 2: ] is missing"),
    ] {
        let told = problem(text).unwrap_or_default();
        assert!(told.contains(part) && !told.contains("hunter2"), "{told}");
    }
}

#[test]
fn the_file_is_where_rclone_has_it() -> Tested {
    let dir = tempfile::tempdir()?;
    let home = dir.path();
    let environment = |name: &str| match name {
        "HOME" => Some(home.as_os_str().to_owned()),
        "XDG_CONFIG_HOME" => Some(home.join("xdg").into_os_string()),
        _ => None,
    };
    let nothing = default_file(&environment).err().ok_or("found")?;
    assert!(nothing.message.contains("xdg/rclone/rclone.conf or"), "{nothing}");
    for place in [".rclone.conf", ".config/rclone/rclone.conf", "xdg/rclone/rclone.conf"] {
        let path = home.join(place);
        std::fs::create_dir_all(path.parent().ok_or("root")?)?;
        std::fs::write(&path, "")?;
        assert_eq!(default_file(&environment)?, path);
    }
    let given = |name: &str| (name == "RCLONE_CONFIG").then(|| "/given".into());
    assert_eq!(default_file(&given)?, std::path::Path::new("/given"));
    Ok(())
}
