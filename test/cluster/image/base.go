package image

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/metamorph-k8s/metamorph/test/packages"
)

const (
	javaHome = "/opt/java/openjdk"
	// appUser is the user and group of both upstream images.
	appUser = 1000
)

// tools puts the everyday programs of a kind of system into a tree, by their paths here.
type tools func(ctx context.Context, t tree) (programs []string, err error)

// busybox is what Alpine has, on which Kafka's image stands: what BusyBox's tools cannot do, scripts must not use.
func busybox(ctx context.Context, t tree) ([]string, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, path, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("%s --list: %w", path, err)
	}
	for _, applet := range strings.Fields(string(out)) {
		if applet != "busybox" {
			t.link("/bin/"+applet, "busybox")
		}
	}
	return []string{path}, t.file("/bin/busybox", path)
}

// coreutils is what Debian and Ubuntu have, on which ZooKeeper's image stands.
func coreutils(_ context.Context, t tree) ([]string, error) {
	var found []string
	for _, name := range strings.Fields(`awk basename cat chmod chown cp cut date dirname echo env false find grep head hostname id ln ls mkdir mktemp mv
		printf pwd readlink rm rmdir sed sleep sort stat tail tee test touch tr true uname uniq wc xargs`) {
		path, err := exec.LookPath(name)
		if err != nil {
			return nil, err
		}
		if err := t.file("/bin/"+name, path); err != nil {
			return nil, err
		}
		found = append(found, path)
	}
	t.link("/bin/sh", "bash")
	return found, nil
}

// base is a small system with Java, bash and a kind of tools, for a user by that name.
func (m *Maker) base(ctx context.Context, user string, kind tools) (tree, error) {
	if err := packages.Ensure(ctx, m.Progress, map[string]string{
		"bash": "bash", "busybox": "busybox-static", "getent": "libc-bin", "ldd": "libc-bin", "jlink": "openjdk-17-jdk-headless",
	}); err != nil {
		return nil, err
	}
	java, err := m.java(ctx)
	if err != nil {
		return nil, err
	}
	t := newTree()
	if err := t.folder(javaHome, java); err != nil {
		return nil, err
	}
	programs, err := kind(ctx, t)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"bash", "getent"} {
		path, err := exec.LookPath(name)
		if err != nil {
			return nil, err
		}
		programs = append(programs, path)
		if err := t.file("/bin/"+name, path); err != nil {
			return nil, err
		}
	}
	// Parts of Java that need more of a system than a server's have their libraries beside them, or are not used.
	for _, part := range []string{"bin/java", "bin/keytool", "lib/libjava.so", "lib/libnet.so", "lib/libnio.so", "lib/libzip.so", "lib/server/libjvm.so"} {
		programs = append(programs, filepath.Join(java, part))
	}
	if err := libraries(ctx, t, java, programs); err != nil {
		return nil, err
	}
	t.text("/etc/passwd", fmt.Sprintf("root:x:0:0:root:/root:/bin/bash\n%s:x:%d:%d::/home/%s:/bin/bash\n", user, appUser, appUser, user))
	t.text("/etc/group", fmt.Sprintf("root:x:0:\n%s:x:%d:\n", user, appUser))
	t.text("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
	t.dir("/home/"+user, 0o755, appUser)
	return t, nil
}

// java makes a runtime that needs no more than itself, as the upstream images have one.
func (m *Maker) java(ctx context.Context) (string, error) {
	jlink, err := exec.LookPath("jlink")
	if err != nil {
		return "", err
	}
	if jlink, err = filepath.EvalSymlinks(jlink); err != nil {
		return "", err
	}
	release, err := os.ReadFile(filepath.Join(filepath.Dir(jlink), "..", "release"))
	if err != nil {
		return "", err
	}
	version := regexp.MustCompile(`(?m)^JAVA_RUNTIME_VERSION="?([^"\n]+)`).FindSubmatch(release)
	if version == nil {
		return "", fmt.Errorf("%s: the version of Java is not in its file release", jlink)
	}
	dir := filepath.Join(m.Cache, "java-"+regexp.MustCompile(`[^\w.+-]`).ReplaceAllString(string(version[1]), "_"))
	return dir, m.once(dir, func(temp string) error {
		m.tell("linking a Java runtime %s", version[1])
		cmd := exec.CommandContext(ctx, jlink, "--output", temp, "--no-header-files", "--no-man-pages", "--strip-java-debug-attributes",
			"--add-modules", "java.se,jdk.attach,jdk.crypto.ec,jdk.httpserver,jdk.jfr,jdk.management,jdk.management.agent,jdk.naming.dns,jdk.net,"+
				"jdk.security.auth,jdk.security.jgss,jdk.unsupported,jdk.zipfs")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("jlink: %w\n%s", err, out)
		}
		return nil
	})
}

// libraries puts the shared libraries of programs into a tree, except those that stand in a folder that is there anyway.
func libraries(ctx context.Context, t tree, except string, programs []string) error {
	found := map[string]bool{}
	for _, program := range programs {
		out, err := exec.CommandContext(ctx, "ldd", program).CombinedOutput()
		if err != nil {
			if strings.Contains(string(out), "not a dynamic executable") {
				continue
			}
			return fmt.Errorf("ldd %s: %w\n%s", program, err, out)
		}
		// Lines are "name => path (address)", or "path (address)" for the loader.
		for _, line := range strings.Split(string(out), "\n") {
			for _, word := range strings.Fields(line) {
				if strings.HasPrefix(word, "/") && !strings.HasPrefix(word, except) {
					found[word] = true
				}
			}
		}
	}
	for _, path := range slices.Sorted(maps.Keys(found)) {
		if err := t.file(path, path); err != nil {
			return err
		}
	}
	return nil
}
