package deploy

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

// manifests are the objects of deploy/kubernetes, decoded strictly: a field that Kubernetes doesn't know is an error.
type manifests struct {
	set      apps.StatefulSet
	account  core.ServiceAccount
	config   core.ConfigMap
	budget   policy.PodDisruptionBudget
	network  networking.NetworkPolicy
	services map[string]core.Service
	secrets  map[string]core.Secret
}

func readManifests(t *testing.T) manifests {
	t.Helper()
	out := manifests{services: map[string]core.Service{}, secrets: map[string]core.Secret{}}
	paths, err := filepath.Glob("../../deploy/kubernetes/*.yaml")
	require.NoError(t, err)
	require.Greater(t, len(paths), 6)
	for _, path := range paths {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, document := range bytes.Split(data, []byte("\n---\n")) {
			decodeManifest(t, path, document, &out)
		}
	}
	return out
}

func decodeManifest(t *testing.T, path string, document []byte, out *manifests) {
	t.Helper()
	var kind meta.TypeMeta
	require.NoError(t, yaml.Unmarshal(document, &kind), path)
	strictly := func(into any) { require.NoError(t, yaml.UnmarshalStrict(document, into), path) }
	switch kind.APIVersion + " " + kind.Kind {
	case "apps/v1 StatefulSet":
		strictly(&out.set)
	case "v1 ServiceAccount":
		strictly(&out.account)
	case "v1 ConfigMap":
		strictly(&out.config)
	case "policy/v1 PodDisruptionBudget":
		strictly(&out.budget)
	case "networking.k8s.io/v1 NetworkPolicy":
		strictly(&out.network)
	case "v1 Service":
		var one core.Service
		strictly(&one)
		out.services[one.Name] = one
	case "v1 Secret":
		var one core.Secret
		strictly(&one)
		out.secrets[one.Name] = one
	case "kustomize.config.k8s.io/v1beta1 Kustomization":
		var list struct {
			meta.TypeMeta `json:",inline"`
			Resources     []string `json:"resources"`
		}
		strictly(&list)
		for _, resource := range list.Resources {
			require.FileExists(t, filepath.Join("../../deploy/kubernetes", resource))
		}
	default:
		t.Fatalf("%s: %s %s is not expected here", path, kind.APIVersion, kind.Kind)
	}
}

// What belongs together finds each other: by labels, by names and by ports.
func TestTheManifestsFitTogether(t *testing.T) {
	m := readManifests(t)
	pod := labels.Set(m.set.Spec.Template.Labels)
	require.NotEmpty(t, pod)
	selects := func(selector *meta.LabelSelector) {
		parsed, err := meta.LabelSelectorAsSelector(selector)
		require.NoError(t, err)
		require.False(t, parsed.Empty())
		require.True(t, parsed.Matches(pod), "%v", selector)
	}
	selects(m.set.Spec.Selector)
	selects(m.budget.Spec.Selector)
	selects(&m.network.Spec.PodSelector)
	selects(m.set.Spec.Template.Spec.TopologySpreadConstraints[0].LabelSelector)

	container := m.set.Spec.Template.Spec.Containers[0]
	ports := map[string]int32{}
	for _, port := range container.Ports {
		ports[port.Name] = port.ContainerPort
	}
	for _, service := range m.services {
		selects(&meta.LabelSelector{MatchLabels: service.Spec.Selector})
		for _, port := range service.Spec.Ports {
			require.Equal(t, ports[port.TargetPort.StrVal], port.Port, service.Name)
		}
	}
	require.Equal(t, core.ClusterIPNone, m.services[m.set.Spec.ServiceName].Spec.ClusterIP)
	require.True(t, m.services[m.set.Spec.ServiceName].Spec.PublishNotReadyAddresses)
	for _, probe := range []*core.Probe{container.StartupProbe, container.LivenessProbe, container.ReadinessProbe} {
		require.Contains(t, ports, probe.HTTPGet.Port.StrVal)
		require.Equal(t, core.URISchemeHTTPS, probe.HTTPGet.Scheme)
	}
	require.Equal(t, "/readyz", container.ReadinessProbe.HTTPGet.Path)
	require.Equal(t, "/healthz", container.LivenessProbe.HTTPGet.Path)
	require.Equal(t, intstr.FromInt32(1), *m.budget.Spec.MaxUnavailable)
	require.Equal(t, m.account.Name, m.set.Spec.Template.Spec.ServiceAccountName)
	require.False(t, *m.account.AutomountServiceAccountToken)
}

// Each file that the configuration names is mounted, from a secret that the example has.
func TestTheConfigurationNamesFilesThatAreMounted(t *testing.T) {
	m := readManifests(t)
	spec := m.set.Spec.Template.Spec
	sources := map[string]core.VolumeSource{}
	for _, volume := range spec.Volumes {
		sources[volume.Name] = volume.VolumeSource
	}
	files := []string{}
	for _, mount := range spec.Containers[0].VolumeMounts {
		source, found := sources[mount.Name]
		require.True(t, found, mount.Name)
		switch {
		case source.Secret != nil:
			secret, found := m.secrets[source.Secret.SecretName]
			require.True(t, found, source.Secret.SecretName)
			for key := range secret.StringData {
				files = append(files, mount.MountPath+"/"+key)
			}
		case source.ConfigMap != nil:
			require.Equal(t, m.config.Name, source.ConfigMap.Name)
			for key := range m.config.Data {
				files = append(files, mount.MountPath+"/"+key)
			}
		}
	}
	named := regexp.MustCompile(`/etc/cdc-node/\S+`).FindAllString(m.config.Data["config.yaml"]+" "+
		strings.TrimPrefix(spec.Containers[0].Args[1], "--config="), -1)
	require.Len(t, named, 7)
	require.Subset(t, files, named)
	require.Subset(t, named, files, "a secret that nothing reads")
}

// The pods run as nobody, on a file system that they can't write to, and get the time that a clean stop may take.
func TestThePodsHaveNoRightsThatTheyDoNotNeed(t *testing.T) {
	spec := readManifests(t).set.Spec.Template.Spec
	require.True(t, *spec.SecurityContext.RunAsNonRoot)
	require.Equal(t, core.SeccompProfileTypeRuntimeDefault, spec.SecurityContext.SeccompProfile.Type)
	require.False(t, *spec.AutomountServiceAccountToken)
	container := spec.Containers[0].SecurityContext
	require.False(t, *container.AllowPrivilegeEscalation)
	require.True(t, *container.ReadOnlyRootFilesystem)
	require.Equal(t, []core.Capability{"ALL"}, container.Capabilities.Drop)
	require.Greater(t, time.Duration(*spec.TerminationGracePeriodSeconds)*time.Second, stopTimeout(t))
}

// Each flag that a manifest or the unit gives is one that the binary has, and it takes the configuration.
func TestTheManifestsGiveFlagsThatThereAre(t *testing.T) {
	m := readManifests(t)
	flags := serverFlags(t)
	for _, argument := range m.set.Spec.Template.Spec.Containers[0].Args[1:] {
		name, _, _ := strings.Cut(strings.TrimPrefix(argument, "--"), "=")
		require.Contains(t, flags, name)
	}
	unit, err := os.ReadFile("../../deploy/systemd/config.yaml")
	require.NoError(t, err)
	for _, text := range []string{m.config.Data["config.yaml"], string(unit)} {
		var values map[string]any
		require.NoError(t, yaml.UnmarshalStrict([]byte(text), &values))
		require.NotEmpty(t, values)
		for name := range values {
			require.Contains(t, flags, name)
		}
	}
}

// serverFlags are the defaults of `cdc-node server`, by the names of its flags, as its help tells them.
func serverFlags(t *testing.T) map[string]string {
	t.Helper()
	help, err := exec.CommandContext(t.Context(), released(t, "cdc-node-linux-amd64"), "server", "--help").Output()
	require.NoError(t, err)
	out := map[string]string{}
	for _, found := range regexp.MustCompile(`(?m)^\s+(?:-\w, )?--([a-z-]+)[^\n]*?(?:\(default "?([^")]*)"?\))?$`).FindAllStringSubmatch(string(help), -1) {
		out[found[1]] = found[2]
	}
	require.Greater(t, len(out), 20)
	return out
}

func stopTimeout(t *testing.T) time.Duration {
	t.Helper()
	limit, err := time.ParseDuration(serverFlags(t)["stop-timeout"])
	require.NoError(t, err)
	return limit
}
