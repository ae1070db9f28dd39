package apiserver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const timeout = 20 * time.Minute // the first run builds

func TestControlPlane(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	began := time.Now()
	s, err := Start(ctx, Options{Progress: os.Stderr, ControllerManager: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop() })
	t.Logf("started in %s", time.Since(began).Round(time.Millisecond))

	version, _, err := s.Kubectl(ctx, "", "version")
	if err != nil {
		t.Fatal(err)
	}
	if client, server := strings.Count(version, "Client Version: v1."), strings.Count(version, "Server Version: v1."); client != 1 || server != 1 {
		t.Errorf("kubectl version: %s", version)
	}

	// The StatefulSet controller runs if pods come of a set.
	const set = `{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: s}, spec: {serviceName: s, selector: {matchLabels: {a: b}},
		template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}}`
	if _, _, err := s.Kubectl(ctx, set, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Kubectl(ctx, "", "wait", "--for=create", "--timeout=60s", "pod/s-0"); err != nil {
		t.Error(err)
	}

	_, stderr, err := s.Kubectl(ctx, "", "get", "pod", "absent")
	if err == nil || !strings.Contains(err.Error(), "not found") || !strings.Contains(stderr, "not found") {
		t.Errorf("a failed command: error %v, stderr %q", err, stderr)
	}

	began = time.Now()
	if err := s.Stop(); err != nil {
		t.Errorf("Stop: %v", err)
	}
	t.Logf("stopped in %s", time.Since(began).Round(time.Millisecond))
	if err := s.Stop(); err != nil {
		t.Errorf("Stop again: %v", err)
	}
	if _, err := os.Stat(s.Kubeconfig); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the kubeconfig is still there: %v", err)
	}
	select {
	case <-s.managers.done:
	default:
		t.Error("kube-controller-manager still runs")
	}
	server, err := url.Parse(s.Config.Host)
	if err != nil {
		t.Fatal(err)
	}
	if conn, err := net.Dial("tcp", server.Host); err == nil {
		conn.Close()
		t.Error("kube-apiserver still listens")
	}
}

func TestStartThatCannotSucceedLeavesNothing(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	if _, err := Binaries(ctx, os.Stderr); err != nil {
		t.Fatal(err)
	}
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	ctx, cancel = context.WithTimeout(ctx, time.Nanosecond)
	defer cancel()
	if s, err := Start(ctx, Options{}); err == nil {
		_ = s.Stop()
		t.Fatal("Start succeeded after its deadline")
	}
	left, err := filepath.Glob(filepath.Join(temp, "*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAssetsThatAreNotThere(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(assetsVariable, dir)
	_, err := Binaries(t.Context(), nil, kubectl)
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), assetsVariable+"="+dir) {
		t.Errorf("Binaries: %v", err)
	}
}

func TestAssetsComeFirst(t *testing.T) {
	dir := t.TempDir()
	want := filepath.Join(dir, kubectl)
	if err := os.WriteFile(want, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv(assetsVariable, dir)
	got, err := Binaries(t.Context(), nil, kubectl)
	if err != nil || got[kubectl] != want {
		t.Errorf("Binaries: %v, %v", got, err)
	}
}

// module returns a build of a small module instead of Kubernetes.
func module(t *testing.T, source string) *build {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module example.com/tool\n\ngo 1.26\n", "v2/main.go": source} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return &build{progress: io.Discard, name: "tool", source: dir, cache: filepath.Join(t.TempDir(), "cache"), version: "v1.2.3"}
}

func TestBuildNamesTheCompilersComplaint(t *testing.T) {
	binaries["tool"] = binary{pkg: "example.com/tool/v2"}
	t.Cleanup(func() { delete(binaries, "tool") })
	b := module(t, "package main\n\nfunc main() { undefined() }\n")
	err := b.ensure(t.Context(), []string{"tool"})
	if err == nil || !strings.Contains(err.Error(), "undefined: undefined") {
		t.Errorf("ensure: %v", err)
	}
	for _, pattern := range []string{"tool*", ".build-*"} {
		if left, _ := filepath.Glob(filepath.Join(b.cache, pattern)); len(left) > 0 {
			t.Errorf("left in the cache: %v", left)
		}
	}
}

func TestBuildIsDoneOnce(t *testing.T) {
	binaries["tool"] = binary{pkg: "example.com/tool/v2"}
	t.Cleanup(func() { delete(binaries, "tool") })
	first := module(t, "package main\n\nfunc main() {}\n")
	var builds atomic.Int32
	var all sync.WaitGroup
	for range 4 {
		var progress bytes.Buffer
		b := *first
		b.progress = &progress
		all.Go(func() {
			if err := b.ensure(t.Context(), []string{"tool"}); err != nil {
				t.Error(err)
			}
			if strings.Contains(progress.String(), "building tool v1.2.3") {
				builds.Add(1)
			}
		})
	}
	all.Wait()
	if n := builds.Load(); n != 1 {
		t.Errorf("built %d times", n)
	}
	if info, err := os.Stat(first.path("tool")); err != nil || info.Mode()&0o100 == 0 {
		t.Errorf("the binary: %v, %v", info, err)
	}
}

func TestBar(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	b := newBar(&out, "tool", 4)
	b.every = 0
	for range 5 {
		b.step()
	}
	b.end()
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 5 || lines[1] != "tool: 2 of 4 packages compiled (50%)" || !strings.Contains(lines[4], "5 of 5") {
		t.Errorf("progress:\n%s", out.String())
	}
}
