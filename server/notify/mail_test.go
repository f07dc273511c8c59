package notify_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"io"
	"math/big"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/notify"
)

const (
	user     = "gate"
	password = "pw-5f0c7a-secret"
	plain    = "AUTH PLAIN AGdhdGUAcHctNWYwYzdhLXNlY3JldA=="
)

// server is a mail server on loopback that keeps to RFC 5321 as far as the client speaks it.
type server struct {
	*net.TCPListener
	// answers replace the usual answer to a command, by its first word; "." is the end of the data,
	// "" the greeting. An answer "…" is none at all.
	answers  map[string]string
	tls      *tls.Config // for STARTTLS
	implicit bool

	done sync.WaitGroup
	mu   sync.Mutex
	// said is what the client said, without the data; letters are the data.
	said    []string
	letters []string
	// quiet is closed when the server first stays silent; gone when a connection has ended.
	quiet, gone chan struct{}
	once        sync.Once
}

func serve(t *testing.T, s *server) *server {
	t.Helper()
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	s.TCPListener, s.quiet, s.gone = listener, make(chan struct{}), make(chan struct{}, 16)
	s.done.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.done.Go(func() {
				defer func() { s.gone <- struct{}{} }()
				defer conn.Close()
				if s.implicit {
					conn = tls.Server(conn, s.tls)
				}
				s.talk(conn, s.implicit)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		s.done.Wait()
	})
	return s
}

func (s *server) talk(conn net.Conn, secure bool) {
	in := textproto.NewReader(bufio.NewReader(conn))
	// answer reports whether the conversation goes on.
	answer := func(command, usual string) bool {
		if other, ok := s.answers[command]; ok {
			usual = other
		}
		if usual == "…" {
			s.once.Do(func() { close(s.quiet) })
			return true
		}
		_, err := io.WriteString(conn, usual+"\r\n")
		return err == nil && !strings.HasPrefix(usual, "421")
	}
	if !answer("", "220 mail.example ESMTP") {
		return
	}
	for {
		line, err := in.ReadLine()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.said = append(s.said, line)
		s.mu.Unlock()
		word, _, _ := strings.Cut(strings.ToUpper(line), " ")
		var more bool
		switch word {
		case "EHLO":
			features := "250-mail.example\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n"
			if s.tls != nil && !secure {
				features += "250-STARTTLS\r\n"
			}
			more = answer(word, features+"250 AUTH PLAIN LOGIN")
		case "STARTTLS":
			if more = answer(word, "220 2.0.0 go ahead"); more {
				conn, secure = tls.Server(conn, s.tls), true
				in = textproto.NewReader(bufio.NewReader(conn))
			}
		case "AUTH":
			more = answer(word, "235 2.7.0 welcome")
		case "DATA":
			if more = answer(word, "354 go on"); more && s.answers[word] == "" {
				letter, err := io.ReadAll(in.DotReader())
				if err != nil {
					return
				}
				s.mu.Lock()
				s.letters = append(s.letters, string(letter))
				s.mu.Unlock()
				more = answer(".", "250 2.0.0 taken")
			}
		case "QUIT":
			answer(word, "221 2.0.0 bye")
			return
		default:
			more = answer(word, "250 2.0.0 fine")
		}
		if !more {
			return
		}
	}
}

func (s *server) port() int { return s.Addr().(*net.TCPAddr).Port }

func (s *server) heard() (said, letters []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.said), slices.Clone(s.letters)
}

// sender is how this server is used, as change says.
func (s *server) sender(t *testing.T, change func(*notify.Config)) *notify.Mail {
	t.Helper()
	config := notify.Config{Host: "127.0.0.1", Port: s.port(), From: "SignedApproval <gate@example.com>"}
	if change != nil {
		change(&config)
	}
	m, err := notify.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// certificate is one for 127.0.0.1, and the pool that believes it.
func certificate(t *testing.T) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, pool
}

var notice = notify.Message{
	To: "bob@example.org", Subject: "Your approval is wanted",
	Text: "Pull request #7 “a <b> & c” waits for approval.\n\nhttps://gate.example/sign/a/b/7?x=1&y=2\n\nSecond line\nof the last paragraph.\n.\n",
}

func TestMailIsALetterInTwoForms(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	if err := s.sender(t, nil).Send(t.Context(), notice); err != nil {
		t.Fatal(err)
	}
	said, letters := s.heard()
	if !slices.Contains(said, "MAIL FROM:<gate@example.com> BODY=8BITMIME") || !slices.Contains(said, "RCPT TO:<bob@example.org>") || len(letters) != 1 {
		t.Fatalf("said %q, %d letters", said, len(letters))
	}
	letter, err := mail.ReadMessage(strings.NewReader(letters[0]))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"From": `"SignedApproval" <gate@example.com>`, "To": "<bob@example.org>", "Subject": notice.Subject,
		"Auto-Submitted": "auto-generated", "X-Mailer": "", "User-Agent": "",
	} {
		if got := letter.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if _, err := letter.Header.Date(); err != nil || !strings.HasSuffix(letter.Header.Get("Message-ID"), "@example.com>") {
		t.Errorf("date %v, id %q", err, letter.Header.Get("Message-ID"))
	}
	kind, parameters, err := mime.ParseMediaType(letter.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/alternative" {
		t.Fatalf("%s: %v", kind, err)
	}
	parts := multipart.NewReader(letter.Body, parameters["boundary"])
	for _, want := range []struct{ kind, text string }{
		{"text/plain", notice.Text},
		{"text/html", `<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Your approval is wanted</title></head><body>
<p>Pull request #7 “a &lt;b&gt; &amp; c” waits for approval.</p>
<p><a href="https://gate.example/sign/a/b/7?x=1&amp;y=2">https://gate.example/sign/a/b/7?x=1&amp;y=2</a></p>
<p>Second line<br>of the last paragraph.<br>.</p>
</body></html>
`},
	} {
		part, err := parts.NextRawPart()
		if err != nil {
			t.Fatal(err)
		}
		if got := part.Header.Get("Content-Type"); !strings.HasPrefix(got, want.kind) {
			t.Errorf("part %s, want %s", got, want.kind)
		}
		if part.Header.Get("Content-Transfer-Encoding") != "quoted-printable" {
			t.Fatalf("part is %s", part.Header.Get("Content-Transfer-Encoding"))
		}
		text, err := io.ReadAll(quotedprintable.NewReader(part))
		if got := strings.ReplaceAll(string(text), "\r\n", "\n"); err != nil || got != want.text {
			t.Errorf("%s: %v\n got %q\nwant %q", want.kind, err, got, want.text)
		}
	}
	if _, err := parts.NextRawPart(); !errors.Is(err, io.EOF) {
		t.Errorf("more parts: %v", err)
	}
}

func TestHeadersCannotBeInjected(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	message := notice
	message.Subject = "one\r\nBcc: eve@example.net\r\n\r\ntwo \x00\u2028ü " + strings.Repeat("x", 500)
	if err := s.sender(t, nil).Send(t.Context(), message); err != nil {
		t.Fatal(err)
	}
	_, letters := s.heard()
	letter, err := mail.ReadMessage(strings.NewReader(letters[0]))
	if err != nil {
		t.Fatal(err)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(letter.Header.Get("Subject"))
	if err != nil || !strings.HasPrefix(subject, "one Bcc: eve@example.net two ü xxx") || len([]rune(subject)) != 200 || letter.Header.Get("Bcc") != "" {
		t.Errorf("subject %q (%v), Bcc %q", subject, err, letter.Header.Get("Bcc"))
	}

	said, _ := s.heard()
	for _, to := range []string{
		"", "bob", "bob@example.org\r\nRCPT TO:<eve@example.net>", "bob@example.org, eve@example.net", "Bob <bob@example.org>",
		"<bob@example.org>", " bob@example.org", "bob@example.org\n", "\"a\rb\"@example.org",
	} {
		message := notice
		message.To = to
		failure := asError(t, s.sender(t, nil).Send(t.Context(), message))
		if !failure.Permanent() || failure.Transient() || strings.Contains(failure.Error(), "example") {
			t.Errorf("%q: %v", to, failure)
		}
	}
	if after, _ := s.heard(); len(after) != len(said) {
		t.Errorf("a bad recipient reached the server: %q", after[len(said):])
	}
}

func asError(t *testing.T, err error) *notify.Error {
	t.Helper()
	failure, ok := errors.AsType[*notify.Error](err)
	if !ok {
		t.Fatalf("%v (%T) is no *notify.Error", err, err)
	}
	return failure
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answers   map[string]string
		code      int
		enhanced  string
		permanent bool
	}{
		"no such mailbox":       {map[string]string{"RCPT": "550 5.1.1 no bob@example.org here"}, 550, "5.1.1", true},
		"mailbox is full":       {map[string]string{"RCPT": "452 4.2.2 bob@example.org is full"}, 452, "4.2.2", false},
		"sender refused":        {map[string]string{"MAIL": "553 5.7.1 not you"}, 553, "5.7.1", true},
		"sender put off":        {map[string]string{"MAIL": "451 4.7.1 greylisted"}, 451, "4.7.1", false},
		"data refused":          {map[string]string{"DATA": "554 5.6.0 no"}, 554, "5.6.0", true},
		"letter refused":        {map[string]string{".": "552 5.3.4 too big"}, 552, "5.3.4", true},
		"letter put off":        {map[string]string{".": "451 4.3.0 later"}, 451, "4.3.0", false},
		"service ends":          {map[string]string{"MAIL": "421 4.3.2 shutting down"}, 421, "4.3.2", false},
		"no service":            {map[string]string{"": "554 go away"}, 554, "", false},
		"no greeting for us":    {map[string]string{"EHLO": "550 who?", "HELO": "550 who?"}, 550, "", false},
		"wrong login":           {map[string]string{"AUTH": "535 5.7.8 no: " + plain + " " + password}, 535, "", false},
		"login put off":         {map[string]string{"AUTH": "454 4.7.0 later"}, 454, "", false},
		"not a word of SMTP":    {map[string]string{"": "HTTP/1.1 400 " + password}, 0, "", false},
		"no login offered":      {map[string]string{"EHLO": "250 mail.example"}, 0, "", false},
		"foreign login offered": {map[string]string{"EHLO": "250-mail.example\r\n250 AUTH KERBEROS_V4"}, 0, "", false},
		"nonsense to the login": {map[string]string{"AUTH": "334 " + base64.StdEncoding.EncodeToString([]byte(password))}, 0, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, &server{answers: test.answers})
			m := s.sender(t, func(c *notify.Config) { c.Username, c.Password = user, password })
			failure := asError(t, m.Send(t.Context(), notice))
			if failure.Code != test.code || failure.EnhancedCode != test.enhanced || failure.Permanent() != test.permanent ||
				failure.Transient() == test.permanent || failure.Step == "" || failure.Code == 0 && failure.Reason == "" {
				t.Errorf("got %+v", failure)
			}
			for _, secret := range []string{password, strings.TrimPrefix(plain, "AUTH PLAIN "), "bob@example.org"} {
				if strings.Contains(failure.Error(), secret) {
					t.Errorf("the error shows %q: %v", secret, failure)
				}
			}
			<-s.gone // nothing is left open
		})
	}
}

// What the server says in taking leave comes after it took the letter.
func TestALetterThatWasTakenIsSent(t *testing.T) {
	t.Parallel()
	for name, answers := range map[string]map[string]string{
		"reset refused": {"RSET": "500 no"},
		"quit refused":  {"QUIT": "500 no"},
		"hung up":       {"RSET": "421 bye"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, &server{answers: answers})
			if err := s.sender(t, nil).Send(t.Context(), notice); err != nil {
				t.Error(err)
			}
			if _, letters := s.heard(); len(letters) != 1 {
				t.Errorf("%d letters", len(letters))
			}
		})
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	settings, pool := certificate(t)
	login := func(policy notify.TLSPolicy, roots *x509.CertPool) func(*notify.Config) {
		return func(c *notify.Config) { c.Username, c.Password, c.TLS, c.RootCAs = user, password, policy, roots }
	}
	for name, s := range map[string]struct {
		server *server
		policy notify.TLSPolicy
	}{
		"STARTTLS": {&server{tls: settings}, notify.TLSStartTLS},
		"implicit": {&server{tls: settings, implicit: true}, notify.TLSImplicit},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			serve(t, s.server)
			if err := s.server.sender(t, login(s.policy, pool)).Send(t.Context(), notice); err != nil {
				t.Fatal(err)
			}
			said, letters := s.server.heard()
			if !slices.Contains(said, plain) || len(letters) != 1 {
				t.Errorf("said %q, %d letters", said, len(letters))
			}
			if slices.Contains(said, "STARTTLS") != (s.policy == notify.TLSStartTLS) {
				t.Errorf("said %q", said)
			}
		})
		t.Run(name+" of a stranger", func(t *testing.T) {
			t.Parallel()
			stranger := serve(t, &server{tls: settings, implicit: s.server.implicit})
			failure := asError(t, stranger.sender(t, login(s.policy, nil)).Send(t.Context(), notice))
			if said, letters := stranger.heard(); slices.Contains(said, plain) || len(letters) != 0 || failure.Permanent() {
				t.Errorf("%v; said %q", failure, said)
			}
		})
	}
	t.Run("STARTTLS is not offered", func(t *testing.T) {
		t.Parallel()
		s := serve(t, &server{})
		failure := asError(t, s.sender(t, login(notify.TLSStartTLS, pool)).Send(t.Context(), notice))
		if said, _ := s.heard(); slices.Contains(said, plain) || failure.Permanent() {
			t.Errorf("%v; said %q", failure, said)
		}
	})
}

func TestSendingEndsWithItsContext(t *testing.T) {
	t.Parallel()
	for _, silent := range []string{"", "EHLO", "AUTH", "MAIL", "."} {
		t.Run("cancelled after "+silent, func(t *testing.T) {
			t.Parallel()
			s := serve(t, &server{answers: map[string]string{silent: "…"}})
			m := s.sender(t, func(c *notify.Config) { c.Username, c.Password = user, password })
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() {
				<-s.quiet
				cancel()
			}()
			err := m.Send(ctx, notice)
			if failure := asError(t, err); !errors.Is(err, context.Canceled) || failure.Permanent() {
				t.Errorf("got %v", err)
			}
			<-s.gone
		})
	}
	t.Run("too slow", func(t *testing.T) {
		t.Parallel()
		s := serve(t, &server{answers: map[string]string{"MAIL": "…"}})
		err := s.sender(t, func(c *notify.Config) { c.Timeout = 2 * time.Second }).Send(t.Context(), notice)
		if failure := asError(t, err); !errors.Is(err, context.DeadlineExceeded) || failure.Permanent() {
			t.Errorf("got %v", err)
		}
		<-s.gone
	})
	t.Run("nobody there", func(t *testing.T) {
		t.Parallel()
		s := serve(t, &server{})
		m := s.sender(t, nil)
		_ = s.Close()
		if failure := asError(t, m.Send(t.Context(), notice)); failure.Permanent() || failure.Reason == "" {
			t.Errorf("got %+v", failure)
		}
	})
}

func TestMailIsSentAtOnceToMany(t *testing.T) {
	t.Parallel()
	s := serve(t, &server{})
	m := s.sender(t, nil)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := m.Send(t.Context(), notice); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	_, letters := s.heard()
	ids := map[string]bool{}
	for _, letter := range letters {
		parsed, err := mail.ReadMessage(strings.NewReader(letter))
		if err != nil {
			t.Fatal(err)
		}
		ids[parsed.Header.Get("Message-ID")] = true
	}
	if len(letters) != 8 || len(ids) != 8 {
		t.Errorf("%d letters with %d ids", len(letters), len(ids))
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	good := notify.Config{Host: "mail.example", From: "gate@example.com", Username: user, Password: password}
	if _, err := notify.New(good); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*notify.Config){
		"no host":                   func(c *notify.Config) { c.Host = "" },
		"a URL":                     func(c *notify.Config) { c.Host = "smtp://mail.example" },
		"a socket":                  func(c *notify.Config) { c.Host = "unix:///run/smtp" },
		"no sender":                 func(c *notify.Config) { c.From = "" },
		"sender is no address":      func(c *notify.Config) { c.From = "gate" },
		"sender is two lines":       func(c *notify.Config) { c.From = "gate@example.com\r\nBcc: eve@example.net" },
		"port below":                func(c *notify.Config) { c.Port = -1 },
		"port above":                func(c *notify.Config) { c.Port = 65536 },
		"unknown policy":            func(c *notify.Config) { c.TLS = "maybe" },
		"negative timeout":          func(c *notify.Config) { c.Timeout = -time.Second },
		"password without its user": func(c *notify.Config) { c.Username = "" },
		"user without password":     func(c *notify.Config) { c.Password = "" },
	} {
		config := good
		spoil(&config)
		if m, err := notify.New(config); err == nil || m != nil || strings.Contains(err.Error(), password) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTLSByAddress(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		host string
		port int
		want notify.TLSPolicy
	}{
		{"mail.example", 587, notify.TLSStartTLS},
		{"mail.example", 25, notify.TLSStartTLS},
		{"192.0.2.1", 587, notify.TLSStartTLS},
		{"localhost.example", 25, notify.TLSStartTLS},
		{"mail.example", 465, notify.TLSImplicit},
		{"localhost", 465, notify.TLSImplicit},
		{"localhost", 25, notify.TLSNone},
		{"127.0.0.1", 1025, notify.TLSNone},
		{"::1", 1025, notify.TLSNone},
	} {
		if got := notify.ByAddress(test.host, test.port); got != test.want {
			t.Errorf("%s, port %d: %s, want %s", test.host, test.port, got, test.want)
		}
	}
}
