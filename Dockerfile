# An expert behind HTTP. The expert's folder comes as a volume; see docs/serve.md.
FROM python:3.11-slim
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
# OpenMP, which llama.cpp computes with.
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
RUN python -m pip install --no-cache-dir -c constraints.txt ".[serve,retrieve]"
# Not root, and usually the person who owns the volume.
USER 1000:1000
EXPOSE 8000
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health')"]
ENTRYPOINT ["python", "-m", "werkmeister.cli"]
CMD ["serve", "/expert", "--set", "serve.host=0.0.0.0", "--set", "serve.port=8000"]
