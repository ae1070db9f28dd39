package node

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// objects are what a cluster has beside its components.
//
//go:embed objects.yaml
var objects string

// supervise runs the components and stays until it is asked to end, or one of them ends.
func (p plan) supervise() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if p.Tied {
		go func() {
			_, _ = os.NewFile(tieFile, "tie").Read(make([]byte, 1))
			stop()
		}()
	}
	reports := os.NewFile(reportFile, "report")
	told := json.NewEncoder(reports)
	s := &supervisor{plan: p, step: func(text string) { _ = told.Encode(report{Step: text}) }, failed: cancel}
	err := s.run(ctx)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause // what else failed has failed because of it
	}
	if err == nil {
		_ = told.Encode(report{Ready: true})
		reports.Close()
		<-ctx.Done()
		if err = context.Cause(ctx); errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	}
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled) {
		return nil
	}
	_ = told.Encode(report{Error: err.Error()})
	return err
}

type supervisor struct {
	plan
	step   func(string)
	failed context.CancelCauseFunc
}

func (s *supervisor) run(ctx context.Context) error {
	s.step("laying out the network")
	if err := network(); err != nil {
		return fmt.Errorf("laying out the network: %w", err)
	}
	s.step("starting etcd, the API server and containerd")
	if err := errors.Join(
		s.component("etcd",
			"--data-dir", s.path("etcd"), "--unsafe-no-fsync", "--log-level=warn",
			"--listen-client-urls", etcdURL, "--advertise-client-urls", etcdURL,
			"--listen-peer-urls", etcdPeer, "--initial-advertise-peer-urls", etcdPeer, "--initial-cluster", "default="+etcdPeer),
		s.component("kube-apiserver",
			"--etcd-servers="+etcdURL, "--advertise-address="+nodeIP, "--secure-port="+strconv.Itoa(apiPort),
			"--tls-cert-file="+s.path("apiserver.crt"), "--tls-private-key-file="+s.path("apiserver.key"), "--client-ca-file="+s.path("ca.crt"),
			"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+s.path("accounts.pub"),
			"--service-account-signing-key-file="+s.path("accounts.key"), "--service-cluster-ip-range="+services,
			"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged",
			"--kubelet-preferred-address-types=InternalIP", "--kubelet-certificate-authority="+s.path("ca.crt"),
			"--kubelet-client-certificate="+s.path("apiserver-kubelet-client.crt"), "--kubelet-client-key="+s.path("apiserver-kubelet-client.key")),
		s.component("containerd", "--config", s.path("containerd.toml")),
	); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", s.path("admin.kubeconfig"))
	if err != nil {
		return err
	}
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	go s.forward(ctx)
	if err := s.wait(ctx, "the API server", "kube-apiserver", func() (bool, error) {
		_, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err == nil, nil // not yet
	}); err != nil {
		return err
	}
	s.step("starting the controllers, kubelet, kube-proxy and CoreDNS")
	if err := s.wait(ctx, "containerd", "containerd", func() (bool, error) {
		_, err := os.Stat(s.path("containerd.sock"))
		return err == nil, nil // not yet
	}); err != nil {
		return err
	}
	if err := errors.Join(
		s.component("kube-controller-manager",
			"--kubeconfig="+s.path("controller-manager.kubeconfig"), "--leader-elect=false", "--use-service-account-credentials",
			"--service-account-private-key-file="+s.path("accounts.key"), "--root-ca-file="+s.path("ca.crt")),
		s.component("kube-scheduler", "--kubeconfig="+s.path("scheduler.kubeconfig"), "--leader-elect=false"),
		s.component("kubelet",
			"--config="+s.path("kubelet.yaml"), "--kubeconfig="+s.path("kubelet.kubeconfig"), "--hostname-override="+nodeName, "--node-ip="+nodeIP,
			"--node-labels=topology.kubernetes.io/zone="+zone),
		s.component("kube-proxy", "--config="+s.path("proxy.yaml")),
		s.kubectl(ctx, s.fill(objects), "apply", "--filename=-"),
		s.component("coredns", "-conf", s.path("Corefile")),
		s.provision(ctx, client),
	); err != nil {
		return err
	}
	s.step("waiting for the node")
	return s.wait(ctx, "the node", "kubelet", func() (bool, error) { return settled(ctx, client) })
}

// settled tells whether pods would run: the node is ready, and the controllers have made what pods refer to.
func settled(ctx context.Context, client kubernetes.Interface) (bool, error) {
	node, err := client.CoreV1().Nodes().Get(ctx, nodeName, metav1.GetOptions{})
	if err != nil {
		return false, nil //nolint:nilerr // not yet
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
			_, err := client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
			return err == nil, nil // not yet
		}
	}
	return false, nil
}

// component starts a process, with its output in a file. The cluster ends when it does.
func (s *supervisor) component(name string, args ...string) error {
	path := s.Binaries[name]
	if path == "" {
		path = name
	}
	log, err := os.Create(s.log(name))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(path, args...) //nolint:noctx // it ends with its namespace
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.Dir, log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		err := cmd.Wait()
		s.failed(fmt.Errorf("%s has ended: %w\n%s", name, err, s.tail(name)))
	}()
	return nil
}

func (s *supervisor) log(name string) string { return filepath.Join(s.Dir, "logs", name+".log") }

func (s *supervisor) tail(name string) string {
	raw, err := os.ReadFile(s.log(name))
	if err != nil {
		return err.Error()
	}
	return tail(raw)
}

func (s *supervisor) wait(ctx context.Context, what, component string, ask func() (bool, error)) error {
	if err := until(ctx, upTimeout, ask); err != nil {
		return fmt.Errorf("waiting for %s: %w\n%s", what, err, s.tail(component))
	}
	return nil
}

func (s *supervisor) kubectl(ctx context.Context, stdin string, args ...string) error {
	cmd := exec.CommandContext(ctx, s.Binaries["kubectl"], append([]string{"--kubeconfig", s.path("admin.kubeconfig")}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kubectl %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// network gives the cluster its only interfaces: the loopback one, and the bridge that pods hang on and the node has its
// address on.
func network() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge}}
	subnet, err := netlink.ParseAddr(nodeIP + pods[strings.IndexByte(pods, '/'):])
	if err != nil {
		return err
	}
	return errors.Join(
		netlink.LinkSetUp(lo),
		netlink.LinkAdd(br),
		netlink.AddrAdd(br, subnet),
		netlink.LinkSetUp(br),
		// Addresses of Services are rewritten after the kernel has found a route to them, so there must be one.
		netlink.RouteAdd(&netlink.Route{LinkIndex: br.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}}),
		os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644),
		bridgedPackets(),
	)
}

// bridgedPackets lets packets between pods of the node be rewritten, too.
func bridgedPackets() error {
	err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-iptables", []byte("1"), 0o644)
	if err != nil {
		return fmt.Errorf("%w (is the kernel module br_netfilter there?)", err)
	}
	return nil
}

// forward passes connections from outside to the API server. The socket was opened outside, and stays there.
func (s *supervisor) forward(ctx context.Context) {
	listener, err := net.FileListener(os.NewFile(socketFile, "socket"))
	if err != nil {
		s.failed(err)
		return
	}
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	for {
		outside, err := listener.Accept()
		if err != nil {
			s.failed(err)
			return
		}
		go func() {
			defer outside.Close()
			inside, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(nodeIP, strconv.Itoa(apiPort)))
			if err != nil {
				return
			}
			defer inside.Close()
			go func() {
				_, _ = io.Copy(inside, outside)
				_ = inside.(*net.TCPConn).CloseWrite()
			}()
			_, _ = io.Copy(outside, inside)
		}()
	}
}
