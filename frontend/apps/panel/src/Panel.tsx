export function Panel() {
  return (
    <main>
      <h1>Approvals</h1>
    </main>
  );
}
