package notify

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"slices"
	"strings"
	"time"
	"unicode"

	smtp "github.com/wneessen/go-mail"
)

const (
	defaultPort    = 587
	defaultTimeout = 20 * time.Second
	// implicitPort is where mail servers speak TLS from the first byte.
	implicitPort = 465
)

// TLSPolicy is how the connection to the mail server is protected.
type TLSPolicy string

const (
	// TLSByAddress is TLSImplicit on port 465, TLSNone on the machine's own addresses and
	// TLSStartTLS everywhere else.
	TLSByAddress TLSPolicy = ""
	// TLSStartTLS begins in the clear and sends nothing of the mail or the login unless the server
	// agrees to TLS.
	TLSStartTLS TLSPolicy = "starttls"
	// TLSImplicit speaks TLS from the first byte.
	TLSImplicit TLSPolicy = "implicit"
	// TLSNone never uses TLS. A password is then sent to the machine's own addresses only.
	TLSNone TLSPolicy = "none"
)

// Config is how mail is sent.
type Config struct {
	Host string // name or address of the mail server; required
	Port int    // 587
	// Username and Password log in; both empty where the server asks for no login.
	Username, Password string
	// From is the sender: an address, or a name and an address as in RFC 5322; required.
	From string
	TLS  TLSPolicy
	// Timeout bounds one mail from connecting to the server's last answer; 20 s.
	Timeout time.Duration
	// RootCAs are whom the server's certificate is checked against; nil means the system's.
	RootCAs *x509.CertPool
}

// Mail sends mail over one server. It is safe for concurrent use and holds no connection: notices are
// few.
type Mail struct {
	config Config
	from   mail.Address
}

// Message is one mail to one person, in plain text.
type Message struct {
	// To is one address without a name.
	To string
	// Subject is made one line of at most 200 characters.
	Subject string
	// Text is the body. Blank lines part paragraphs; a line that is nothing but a link becomes one in
	// the HTML part, which is made of the same text.
	Text string
}

// New checks the settings; it does not connect. Its errors never quote the password.
func New(config Config) (*Mail, error) {
	config.Port = cmp.Or(config.Port, defaultPort)
	config.Timeout = cmp.Or(config.Timeout, defaultTimeout)
	if config.TLS == TLSByAddress {
		config.TLS = byAddress(config.Host, config.Port)
	}
	from, err := mail.ParseAddress(config.From)
	switch {
	case config.Host == "" || strings.ContainsFunc(config.Host, notInHost):
		return nil, errors.New("notify: the mail server's host is not a host name or address")
	case config.Port < 1 || config.Port > 65535:
		return nil, fmt.Errorf("notify: %d is not the port of a mail server", config.Port)
	case config.Timeout < 0:
		return nil, errors.New("notify: the timeout is negative")
	case !slices.Contains([]TLSPolicy{TLSStartTLS, TLSImplicit, TLSNone}, config.TLS):
		return nil, fmt.Errorf("notify: %q is not a TLS policy; there are %s, %s and %s", config.TLS, TLSStartTLS, TLSImplicit, TLSNone)
	case (config.Username == "") != (config.Password == ""):
		return nil, errors.New("notify: the mail server's user name and password go together")
	case err != nil || hasControl(config.From):
		return nil, errors.New("notify: the sender is not a mail address")
	}
	return &Mail{config: config, from: *from}, nil
}

// byAddress is what TLSByAddress stands for.
func byAddress(host string, port int) TLSPolicy {
	switch ip := net.ParseIP(host); {
	case port == implicitPort:
		return TLSImplicit
	case host == "localhost", ip != nil && ip.IsLoopback():
		return TLSNone
	}
	return TLSStartTLS
}

// Send hands a mail to the server and returns nil once the server has taken it. Its error is an
// [*Error]. After an error that is not permanent the mail may have been taken nevertheless, where the
// server's last answer was lost.
func (m *Mail) Send(ctx context.Context, message Message) error {
	letter, err := m.letter(message)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, m.config.Timeout)
	defer cancel()
	client, err := m.client(ctx)
	if err != nil {
		return &Error{Step: stepConnect, Reason: m.clean(err.Error())}
	}
	err = client.DialAndSendWithContext(ctx, letter)
	if err == nil || letter.IsDelivered() {
		return nil // what goes wrong in taking leave does not bring the mail back
	}
	return m.failure(ctx, err)
}

// letter writes a message as a mail. What is wrong with it is permanent.
func (m *Mail) letter(message Message) (*smtp.Msg, error) {
	to, err := mail.ParseAddress(message.To)
	if err != nil || to.Name != "" || to.Address != message.To || hasControl(message.To) {
		return nil, &Error{Step: stepWrite, Reason: "the recipient is not a plain mail address", permanent: true}
	}
	letter := smtp.NewMsg(smtp.WithNoDefaultUserAgent())
	letter.FromMailAddress(&m.from)
	letter.ToMailAddress(to)
	letter.Subject(oneLine(message.Subject))
	letter.SetDate()
	_, domain, _ := strings.Cut(m.from.Address, "@")
	letter.SetMessageIDWithValue(strings.ToLower(rand.Text()) + "@" + domain)
	letter.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: nobody's absence note answers it
	letter.SetBodyString(smtp.TypeTextPlain, message.Text)
	letter.AddAlternativeString(smtp.TypeTextHTML, asHTML(message.Subject, message.Text))
	return letter, nil
}

// client prepares one conversation, whose connection is closed when ctx ends, at whatever step.
func (m *Mail) client(ctx context.Context) (*smtp.Client, error) {
	settings := &tls.Config{ServerName: m.config.Host, MinVersion: tls.VersionTLS12, RootCAs: m.config.RootCAs}
	dial := func(dialing context.Context, network, address string) (conn net.Conn, err error) {
		if m.config.TLS == TLSImplicit {
			conn, err = (&tls.Dialer{Config: settings}).DialContext(dialing, network, address)
		} else {
			conn, err = (&net.Dialer{}).DialContext(dialing, network, address)
		}
		if err == nil {
			context.AfterFunc(ctx, func() { _ = conn.Close() })
		}
		return conn, err
	}
	options := []smtp.Option{
		smtp.WithPort(m.config.Port), smtp.WithTLSConfig(settings), smtp.WithDialContextFunc(dial), smtp.WithoutNoop(),
		smtp.WithTimeout(2 * m.config.Timeout), // go-mail's own, per step; ctx ends first
	}
	switch m.config.TLS {
	case TLSStartTLS:
		options = append(options, smtp.WithTLSPolicy(smtp.TLSMandatory))
	case TLSImplicit:
		options = append(options, smtp.WithSSL())
	default:
		options = append(options, smtp.WithTLSPolicy(smtp.NoTLS))
	}
	if m.config.Username != "" {
		options = append(options, smtp.WithUsername(m.config.Username), smtp.WithPassword(m.config.Password),
			smtp.WithOpportunisticSMTPAuth(smtp.SMTPAuthSCRAMSHA256, smtp.SMTPAuthPlain, smtp.SMTPAuthLogin, smtp.SMTPAuthSCRAMSHA1, smtp.SMTPAuthCramMD5))
	}
	return smtp.NewClient(m.config.Host, options...)
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f })
}

// notInHost tells what cannot be part of a host name or an address, so that none of go-mail's other
// forms, such as a socket's path, gets in.
func notInHost(c rune) bool {
	return c > unicode.MaxASCII || !unicode.IsLetter(c) && !unicode.IsDigit(c) && !strings.ContainsRune(".-_:", c)
}
