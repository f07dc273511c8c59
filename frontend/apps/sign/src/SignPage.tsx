export function SignPage() {
  return (
    <main>
      <h1>Sign a decision</h1>
    </main>
  );
}
