# The whole of it for a Mac: gateway, worker, page and demo model, as one command and one service.
# Put your copy's addresses into `homepage` and `head`, and this file into a tap of yours
# (docs/operations.md).
class ProxyOaiCompat < Formula
  desc "OpenAI-compatible server for vision-language models on Apple silicon"
  homepage "https://git.example.com/proxy-OAI-compat"
  license "MIT"
  head "https://git.example.com/proxy-OAI-compat.git", branch: "main"

  depends_on arch: :arm64
  depends_on :macos
  depends_on "python@3.12"

  def install
    system "python3.12", "-m", "venv", libexec
    system libexec/"bin/pip", "install", "--no-cache-dir", buildpath
    bin.install_symlink libexec/"bin/proxy-oai-compat"
    # Where the service finds its `.env` and keeps `keys`.
    (var/"proxy-oai-compat").mkpath
  end

  service do
    run [opt_bin/"proxy-oai-compat", "serve"]
    working_dir var/"proxy-oai-compat"
    keep_alive true
    log_path var/"log/proxy-oai-compat.log"
    error_log_path var/"log/proxy-oai-compat.log"
  end

  test do
    assert_match "proxy-oai-compat", shell_output("#{bin}/proxy-oai-compat --version")
  end
end
