package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/metamorph-k8s/metamorph/pkg/admission"
	"github.com/metamorph-k8s/metamorph/pkg/admission/server"
)

// serveFlags are what server.Options does not hold as it is written.
type serveFlags struct {
	server.Options

	bindAddress, kubeconfig string
	port                    uint16
	logLevel, logFormat     *choice
}

func newServe() *cobra.Command {
	o := serveFlags{logLevel: oneOf("info", "debug", "error"), logFormat: oneOf("json", "text")}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the webhook",
		Long: `Run the webhook: with TLS /mutate, /validate and /validate-scale; beside it, without TLS, /healthz, /readyz, /metrics.

Policies come with the program, from the folders of --policies, and from ConfigMaps in Metamorph's own namespace with
the label metamorph.dev/policies. One replica, the leader, audits what is stored, and keeps the objects that the
StatefulSets need beside them.

The certificate is read from files, again whenever they change. --self-signed makes one instead, for a webhook on one's
own machine; --register then tells the cluster where it is.

On SIGTERM the server first reports that it is not ready, then finishes what it has begun. Both addresses are printed on
the standard output; the log goes to the standard error.`,
		Example: `  # In a cluster, see manifests/webhook.yaml
  metamorph serve --tls-cert-file /etc/metamorph/tls/tls.crt --tls-key-file /etc/metamorph/tls/tls.key

  # On this machine, for the cluster of the kubeconfig, which must be able to reach the host
  metamorph serve --self-signed --self-signed-host 192.168.1.10 --register https://192.168.1.10 --port 0 --log-format text`,
		Args: cobra.NoArgs,
		RunE: runs(func(cmd *cobra.Command, _ []string) error { return serve(cmd, o) }),
	}
	namespace := os.Getenv("POD_NAMESPACE")
	if namespace == "" {
		namespace = admission.DefaultNamespace
	}
	f := cmd.Flags()
	f.StringVar(&o.CertFile, "tls-cert-file", "", "file with the certificate, PEM")
	f.StringVar(&o.KeyFile, "tls-key-file", "", "file with its key, PEM")
	f.BoolVar(&o.SelfSigned, "self-signed", false, "make a certificate, for local use")
	f.StringSliceVar(&o.SelfSignedHosts, "self-signed-host", []string{"localhost", "127.0.0.1", "::1"}, "host names and addresses of the self-signed certificate")
	f.StringVar(&o.CAOut, "ca-out", "", "file to write the CA bundle of the self-signed certificate to")
	f.StringVar(&o.Register, "register", "", "register the webhook in the cluster under this URL, https://HOST[:PORT], with the self-signed certificate")
	f.StringVar(&o.bindAddress, "bind-address", "", "address to listen on; empty means all")
	f.Uint16Var(&o.port, "port", 9443, "port of the webhook; 0 takes a free one")
	f.StringVar(&o.PlainAddress, "health-address", ":8080", "address of /healthz, /readyz and /metrics, as HOST:PORT; empty means none, port 0 a free one")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig file; without it the pod's service account, else what kubectl would take")
	f.StringVar(&o.Namespace, "namespace", namespace, "Metamorph's own namespace, where the profiles are; default from POD_NAMESPACE")
	f.StringArrayVar(&o.PolicyFolders, "policies", nil, "folder with policies of your own, read again when it changes; can be repeated")
	f.BoolVar(&o.Certificates, "certificates", false, "let policies see the certificates in Secrets that tls-secret names; needs the right to get Secrets")
	f.BoolVar(&o.Companions, "companions", true, "make and keep what is needed beside the StatefulSets: Services, Secrets, disruption budgets, ZooKeeper ensembles")
	f.DurationVar(&o.AuditInterval, "audit-interval", 10*time.Minute, "how often everything that is stored is judged; 0 means never")
	f.DurationVar(&o.DrainDelay, "drain-delay", 5*time.Second, "how long to go on taking requests once readiness is off")
	f.DurationVar(&o.DrainTimeout, "drain-timeout", 20*time.Second, "how long requests under way then have")
	f.Var(o.logLevel, "log-level", "info, debug or error")
	f.Var(o.logFormat, "log-format", "json or text")
	return cmd
}

func serve(cmd *cobra.Command, o serveFlags) error {
	if err := o.check(); err != nil {
		return usage(err)
	}
	var err error
	if o.Config, err = restConfig(o.kubeconfig); err != nil {
		return usage(fmt.Errorf("finding the cluster: %w", err))
	}
	o.Version = currentVersion()
	o.Config.UserAgent = "metamorph/" + o.Version
	o.Log = newLog(cmd.ErrOrStderr(), o.logLevel.value, o.logFormat.value)
	o.Address = net.JoinHostPort(o.bindAddress, fmt.Sprint(o.port))
	o.Listening = func(webhook, plain net.Addr) {
		fmt.Fprintf(cmd.OutOrStdout(), "webhook https://%s%s\n", webhook, admission.MutatePath)
		if plain != nil {
			fmt.Fprintf(cmd.OutOrStdout(), "health http://%s%s\n", plain, admission.ReadyPath)
		}
	}
	return server.Run(cmd.Context(), o.Options)
}

func (o serveFlags) check() error {
	files := o.CertFile != "" || o.KeyFile != ""
	switch {
	case o.SelfSigned && files:
		return errors.New("--self-signed and --tls-cert-file exclude each other")
	case !o.SelfSigned && (o.CertFile == "" || o.KeyFile == ""):
		return errors.New("the webhook needs a certificate: --tls-cert-file and --tls-key-file, or --self-signed")
	case !o.SelfSigned && (o.CAOut != "" || o.Register != ""):
		return errors.New("--ca-out and --register are for --self-signed only")
	case o.Register != "" && !strings.HasPrefix(o.Register, "https://"):
		return errors.New("--register needs a URL that begins with https://")
	}
	return nil
}

// restConfig finds the cluster: a file that is named, the pod's service account, $KUBECONFIG, ~/.kube/config.
func restConfig(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		if c, err := rest.InClusterConfig(); !errors.Is(err, rest.ErrNotInCluster) {
			return c, err
		}
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	c, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		return nil, errors.New("there is neither a service account nor a kubeconfig; name one with --kubeconfig")
	}
	return c, err
}

// newLog makes the logger of everything in the process, client-go included.
func newLog(w io.Writer, level, format string) logr.Logger {
	o := &slog.HandlerOptions{Level: map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "error": slog.LevelError}[level]}
	var h slog.Handler = slog.NewJSONHandler(w, o)
	if format == "text" {
		h = slog.NewTextHandler(w, o)
	}
	log := logr.FromSlogHandler(h)
	logf.SetLogger(log)
	klog.SetLogger(log)
	return log
}
